"""Why a case got its answers: voxels, words, fields, concepts and paths, modality shares, and tests of all these."""

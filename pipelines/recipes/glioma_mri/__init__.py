"""glioma-mri: tumour mask, side, lobe, grade, histology, tissue cluster from MR, age, sex and the knowledge graph.

Data: TCGA lower-grade glioma MRI with masks (Buda, Saha, Mazurowski, Comput Biol Med 109, 2019), CC BY-NC-SA 4.0.
Run `python -m pipelines.recipes.glioma_mri --help`.
"""

"""The recipe `radiology_cases`: teaching cases with pictures and text (MedPix 2.0), tasks T1 to T5 in one model."""

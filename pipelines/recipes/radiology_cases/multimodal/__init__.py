"""The same cases through the package's own model: trained once, then diagnosed, explained and reported like any other.

`spec` says what the model is, `reading` what its frozen front makes of the cases, `fitting` trains and calibrates it,
`answering` writes the recipe's answer files with it, `comparing` holds fusions and graphs against each other, and
`explaining` tests its explanations.
"""

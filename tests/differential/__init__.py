"""A net under the engine: drawn pipelines on drawn images, in drawn ways, against the oracle.

`draws` says what is drawn, `contents` makes its pixels, `reference` has its right answer from
`oracle.py` alone, `holding` and `running` say how it is done with pxprep, `checking` compares.
`sizes` is the only module that knows constants of the engine. `python -m tests.differential` runs
many cases, `python -m tests.differential.faults` breaks the engine to see that the net holds.
"""

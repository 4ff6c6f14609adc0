"""The dashboard: a local web application over run folders, for people who want to look.

runs      what there is and how it stands          catalogue  an index of a run's conversations
web       the application, and who may ask         browse     searching and filtering it
pages     what each address shows                  live       a run while it generates
alike     words that differ, twins, pairs          search     the words that somebody looks for
"""

"""The site: a folder of pages on which every number of a table or figure opens what it was made from."""

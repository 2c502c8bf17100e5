"""The same cases in the terms of other libraries: one file a library, imported when used."""

"""`python -m depthsearch.reporting`: tables, pages and figures of the finished runs."""

from depthsearch.reporting.pages import main

main()

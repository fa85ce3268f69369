"""The script's own loader, with DALI making its images: standard library, torch and DALI only."""

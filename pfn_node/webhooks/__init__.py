"""Telling others of news as they happen: signed as Standard Webhooks describes, delivered until they were taken."""

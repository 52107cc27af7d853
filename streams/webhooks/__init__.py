"""Webhooks: new prices told to other systems over HTTP, by the Standard Webhooks convention."""

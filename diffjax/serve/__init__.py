"""A server for samples: HTTP, progress as events, metrics and a page, over one engine.

`limits` holds what a client may ask for, `requests` what a request may say, `service` the engine
and its network, `app` the addresses, and `page.html` the page. The package needs the extra `serve`.
"""

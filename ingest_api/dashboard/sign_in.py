"""The page that asks for a key.

Belongs here: its HTML. Does not belong here: what is done with the key (``routes``, ``sessions``).

One document with a form and no script but the theme's: Dash is loaded for nobody who has not signed in.
"""

from html import escape

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


def html(problem: str = "", following: str = "") -> str:
    """Return the page.

    Args:
        problem: Why an attempt failed.
        following: The page of the dashboard to go to then.
    """
    said = f'<p class="notice notice-bad" id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = "about-key problem" if problem else "about-key"
    invalid = ' aria-invalid="true"' if problem else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in · Notify</title>
<link rel="icon" href="/dashboard/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/dashboard/assets/style.css">
<script src="/dashboard/assets/theme.js"></script>
</head>
<body class="sign-in">
<main>
<h1>Notify</h1>
<p class="lead">What was sent, whom it reached, and how fast.</p>
{said}
<form method="post" action="/dashboard/sign-in">
<label for="key">Secret key</label>
<input id="key" name="key" type="password" autocomplete="current-password" autocapitalize="none" spellcheck="false"
 required autofocus aria-describedby="{described}"{invalid}>
<p class="hint" id="about-key">It begins with <code>nsk_</code>. An administrator&rsquo;s, <code>nak_</code>, opens
 the operations page only.</p>
<input type="hidden" name="next" value="{escape(following)}">
<button type="submit" class="button button-main">Sign in</button>
</form>
</main>
</body>
</html>
"""

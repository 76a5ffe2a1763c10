//! Values that a store's client would panic over, or repeat: judged before any client is built.
//!
//! A client takes a URL, or what goes into a header, as it is, and panics over one that is none with its
//! first request; of what it refuses at once it quotes the value. Any value may be a secret, written in the
//! wrong place, so none is repeated here but an endpoint that is a host and a port.

use std::fs::File;

use object_store::client::{HttpRequest, HttpRequestBody};
use url::Url;

/// What a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// JSON or PEM: it may have lines.
    Lines,
    /// Without control characters.
    Text,
    /// As `Text`; a URL may have a user and a password.
    Proxy,
    /// A part of a host's name, or of a path.
    Name,
    /// A host, and perhaps a port.
    Host,
    /// A URL that is asked as it is.
    Url,
    /// A URL that a path is appended to.
    Base,
    /// A path that is appended to a URL.
    Path,
    /// A file that is read at once.
    File,
}

/// What is wrong, and how to mend it.
pub(super) type Fault = (String, &'static str);

const URL: &str = "write http://HOST:PORT or https://HOST:PORT";

impl Rule {
    pub(super) fn judge(self, value: &str) -> Result<(), Fault> {
        if self == Self::Lines {
            return Ok(());
        }
        if value.chars().any(char::is_control) {
            return Err((
                "a control character in it, often a newline at its end".into(),
                "take it away (printf %s, not echo)",
            ));
        }
        // It would stand in the HTTP client's own log. Proxies alone may ask for it.
        if self != Self::Proxy && has_user(value) {
            return Err((
                "credentials in the URL".into(),
                "leave them out: requests are signed with the store's own keys",
            ));
        }
        match self {
            Self::Lines | Self::Text | Self::Proxy => Ok(()),
            Self::Name => name(value),
            Self::Host => host(value),
            Self::Url => url(value),
            Self::Base => base(value),
            Self::Path => path(value),
            Self::File => file(value),
        }
    }
}

/// Letters, digits and `._-`: what goes into a URL as it is.
pub(super) fn is_name(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !value.is_empty() && value.chars().all(plain)
}

fn name(value: &str) -> Result<(), Fault> {
    if is_name(value) {
        return Ok(());
    }
    let what = "not a name: it is empty, or has more than letters, digits, \".\", \"_\" and \"-\"";
    Err((
        what.into(),
        "write the bare name, without spaces or quotes, or leave it out",
    ))
}

fn host(value: &str) -> Result<(), Fault> {
    let url = format!("http://{value}");
    if is_url(&url) && !value.contains(['/', '?', '#', '@']) {
        Ok(())
    } else {
        Err((
            "not a host".into(),
            "write HOST or HOST:PORT, or leave it out",
        ))
    }
}

fn url(value: &str) -> Result<(), Fault> {
    if value.is_empty() {
        return Err((
            "empty, not a URL".into(),
            "leave it out, or write http://HOST:PORT or https://HOST:PORT",
        ));
    }
    if is_url(value) {
        return Ok(());
    }
    let what = if is_host_and_port(value) {
        format!("{value:?} is not a URL")
    } else {
        "this value is not a URL".into()
    };
    Err((what, URL))
}

fn base(value: &str) -> Result<(), Fault> {
    url(value)?;
    if value.contains(['?', '#']) {
        return Err(("a query or fragment in the URL".into(), URL));
    }
    Ok(())
}

fn path(value: &str) -> Result<(), Fault> {
    if value.starts_with('/') && is_url(&format!("http://h{value}")) {
        Ok(())
    } else {
        Err(("not a path".into(), "write /PATH"))
    }
}

fn file(value: &str) -> Result<(), Fault> {
    let opened = File::open(value).and_then(|file| file.metadata());
    match opened {
        Ok(metadata) if metadata.is_dir() => {
            Err(("a folder, not a file".into(), "write the file's path"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err((
            format!("the file that it names cannot be read: {error}"),
            "write the path of a file that callvault's user may read",
        )),
    }
}

/// Whether two parsers that see each request agree that it is an http or https URL with a host. Of a host
/// without `//` the first one makes a scheme, and mends much that the second one refuses.
fn is_url(value: &str) -> bool {
    let rest = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.starts_with(['/', '\\', '?', '#'])) {
        return false;
    }
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    let Ok(uri) = value.parse() else {
        return false;
    };
    *request.uri_mut() = uri;
    request.uri().host().is_some_and(|host| !host.is_empty())
        && Url::parse(value).is_ok_and(|url| url.has_host())
        // As a signature's maker reads it again.
        && Url::parse(&request.uri().to_string()).is_ok()
}

/// Whether there is a user before the host, also in a URL that is none: a wrong port hides nothing.
fn has_user(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    authority.contains('@')
        || Url::parse(value).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// What can be nothing else, so that it may be shown: `localhost`, `seaweed:8333`.
fn is_host_and_port(value: &str) -> bool {
    match value.split_once(':') {
        None => value == "localhost",
        Some((host, port)) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            is_name(host) && (1..=5).contains(&port.len()) && digits
        }
    }
}

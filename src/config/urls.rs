//! URLs and host names in the configuration. None is quoted in a message: each may hold a password.

use std::path::Path;

use url::{Host, Url};

use super::mistake::{Fault, quoted};

/// A bucket's URL; that of a folder is made absolute, seen from the configuration file.
pub(super) fn bucket(url: &str, folder: &Path) -> Result<String, Fault> {
    const FORM: &str = "write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:FOLDER or memory:";
    let folder = Url::from_directory_path(folder);
    let parsed = match &folder {
        // Only a `file:` URL can be relative; every other replaces the base.
        Ok(base) if url.starts_with("file:") => base.join(url),
        _ => Url::parse(url),
    };
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            return Err(Fault::new(
                "a URL is expected, not a bare path",
                "write file:FOLDER for a folder",
            ));
        }
        Err(_) => return Err(Fault::new("not a URL", FORM)),
    };
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(Fault::new(
            "a query or fragment in the URL",
            "move settings of the store to `options`",
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(Fault::new(
            "credentials in the URL",
            "move them to `options`, or to the cloud's own environment variables",
        ));
    }
    match parsed.scheme() {
        "s3" | "gs" | "az" => cloud(&parsed),
        "file" => in_folder(url, &parsed),
        "memory" if matches!(parsed.path(), "" | "/") && !parsed.has_host() => {
            Ok("memory:".to_owned())
        }
        "memory" => Err(Fault::new("memory: has no path", "write memory: alone")),
        "http" | "https" => Err(Fault::new(
            "an endpoint is not a bucket",
            "write s3://BUCKET/PREFIX, and the endpoint in `options`: { endpoint = \"https://…\" }",
        )),
        _ => Err(Fault::new("an unknown scheme", FORM)),
    }
}

fn cloud(url: &Url) -> Result<String, Fault> {
    let scheme = url.scheme();
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Fault::new(
            "no bucket in the URL",
            format!("write {scheme}://BUCKET/PREFIX"),
        ));
    }
    if url.port().is_some() {
        return Err(Fault::new(
            "a port in the URL",
            format!("write {scheme}://BUCKET/PREFIX, and the endpoint in `options`"),
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn in_folder(given: &str, url: &Url) -> Result<String, Fault> {
    const FORM: &str = "write file:../FOLDER, seen from the configuration file, or file:///FOLDER";
    let path = given.trim_start_matches("file:");
    if path.trim_matches('/').is_empty() {
        return Err(Fault::new("no folder in the URL", FORM));
    }
    if path.starts_with('~') {
        return Err(Fault::new(
            "`~` is not the home directory here",
            "write the folder's whole path",
        ));
    }
    if url.to_file_path().is_err() {
        return Err(Fault::new("a host in the URL of a folder", FORM));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An entry of `fetch.allowed_hosts`, spelt as a parsed URL spells its host.
pub(super) fn host_pattern(pattern: &str) -> Result<String, Fault> {
    const FORM: &str =
        r#"write a host name alone, such as "files.example.com", or "*.example.com", or "*""#;
    let wrong = || Fault::new(format!("{} is not a host name", quoted(pattern)), FORM);
    if pattern == "*" {
        return Ok(pattern.to_owned());
    }
    let (star, name) = match pattern.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", pattern),
    };
    if name.contains('*') || name.starts_with('.') || name.contains("..") {
        return Err(wrong());
    }
    match Host::parse(name) {
        Ok(Host::Domain(domain)) => Ok(format!("{star}{domain}")),
        Ok(address) if star.is_empty() => Ok(address.to_string()),
        _ => Err(wrong()),
    }
}

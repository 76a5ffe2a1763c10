//! The broker's URI. It is never quoted in a message: it may hold a password.

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{
    folder::Folder,
    mistake::{Fault, quoted},
};

const FORM: &str =
    "write amqp://USER:PASSWORD@HOST:PORT/VHOST, with special characters percent-encoded";

/// The parameters that may follow, as RabbitMQ's own clients name them
/// (<https://www.rabbitmq.com/docs/uri-query-parameters>).
const PARAMETERS: &str = "the parameters are heartbeat (seconds), frame_max, channel_max, auth_mechanism (plain or \
    external), cacertfile, certfile, keyfile and verify (verify_peer)";

/// The broker's address, if the client library would understand it as it is meant. Files that it names
/// are seen from the configuration file.
pub(super) fn uri(uri: &SecretString, folder: &Folder) -> Result<SecretString, Fault> {
    // Of `amqp://u:1/2@h` the host is `u`: the password's end would be tried, and told, as another part.
    let mut parts = uri.expose_secret().splitn(4, ['/', '?', '#']).skip(2);
    let (authority, rest) = (parts.next().unwrap_or_default(), parts.next());
    if !authority.contains('@') && rest.is_some_and(|rest| rest.contains('@')) {
        return Err(Fault::new(
            "an `@` after the host, or a password that ends early",
            FORM,
        ));
    }
    let Ok(mut url) = Url::parse(uri.expose_secret()) else {
        return Err(Fault::new("not a URL", FORM));
    };
    address(&url)?;
    let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if parameters.is_empty() {
        url.set_query(None);
        return Ok(String::from(url).into());
    }
    let tls = url.scheme() == "amqps";
    let parameters: Vec<_> = parameters
        .into_iter()
        .map(|(name, value)| {
            let value = parameter(&name, value, tls, folder)?;
            Ok((name, value))
        })
        .collect::<Result<_, _>>()?;
    both_or_neither(&parameters)?;
    url.query_pairs_mut().clear().extend_pairs(parameters);
    Ok(String::from(url).into())
}

fn address(url: &Url) -> Result<(), Fault> {
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err(Fault::new("neither an amqp:// nor an amqps:// URL", FORM));
    }
    match url.host() {
        None => return Err(Fault::new("no host in the URL", FORM)),
        // The client library would silently go to localhost instead.
        Some(Host::Ipv6(_)) => {
            return Err(Fault::new(
                "an IPv6 address is not supported here",
                "write a host name that leads to it",
            ));
        }
        Some(_) => {}
    }
    match url.path() {
        "/" => Err(Fault::new(
            "a single `/` at the end names the virtual host \"\", not the default one",
            "end with `/%2f` for the default virtual host `/`",
        )),
        path if path.matches('/').count() > 1 => Err(Fault::new(
            "a virtual host with an unencoded `/`",
            "write each further `/` as `%2f`",
        )),
        _ => Ok(()),
    }
}

/// One parameter's value, as the queue's side takes it.
fn parameter(name: &str, value: String, tls: bool, folder: &Folder) -> Result<String, Fault> {
    match name {
        "heartbeat" if value.parse::<u16>().is_ok_and(|seconds| seconds > 0) => Ok(value),
        "heartbeat" => Err(Fault::new(
            "a heartbeat that is not a number of seconds, or is none at all",
            "write 1 to 65535: without heartbeats a connection that broke silently is never noticed",
        )),
        // AMQP 0-9-1, section 4.2.3: a peer must take frames of so many bytes.
        "frame_max" if value.parse::<u32>().is_ok_and(|bytes| bytes >= 4096) => Ok(value),
        "frame_max" => Err(Fault::new(
            "frame_max is not a number of bytes",
            "write at least 4096, or leave it out",
        )),
        "channel_max" if value.parse::<u16>().is_ok() => Ok(value),
        "channel_max" => Err(Fault::new(
            "channel_max is not a number of channels",
            "write 0 to 65535, or leave it out",
        )),
        "auth_mechanism"
            if matches!(
                value.to_ascii_lowercase().as_str(),
                "plain" | "amqplain" | "external"
            ) =>
        {
            Ok(value)
        }
        "auth_mechanism" => Err(Fault::new(
            "an auth_mechanism that callvault does not have",
            "write plain, or external to be known by the client certificate",
        )),
        "verify" if value == "verify_peer" => Ok(value),
        "verify" => Err(Fault::new(
            "the broker's certificate is always verified",
            "leave `verify` out, and name a private authority in cacertfile",
        )),
        "cacertfile" | "certfile" | "keyfile" if !tls => Err(Fault::new(
            format!("{name} without TLS"),
            "write amqps:// in front",
        )),
        "cacertfile" | "certfile" | "keyfile" => {
            let path = folder.absolute(&value);
            std::fs::File::open(&path).map_err(|error| {
                Fault::new(
                    format!("{name} {} cannot be read: {error}", quoted(&value)),
                    "name a PEM file, seen from the folder of the configuration file",
                )
            })?;
            Ok(path.to_string_lossy().into_owned())
        }
        _ => Err(Fault::new(
            format!("an unknown parameter, {}", quoted(name)),
            PARAMETERS,
        )),
    }
}

/// A certificate is of no use without its key, nor a key without its certificate.
fn both_or_neither(parameters: &[(String, String)]) -> Result<(), Fault> {
    let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
    match (has("certfile"), has("keyfile")) {
        (true, false) => Err(Fault::new(
            "certfile without keyfile",
            "name the certificate's private key in keyfile",
        )),
        (false, true) => Err(Fault::new(
            "keyfile without certfile",
            "name the client certificate in certfile",
        )),
        _ => Ok(()),
    }
}

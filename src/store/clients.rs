//! HTTP clients for stores, as their options ask for them; buckets with the same options share one, and its connections.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::{
    ClientConfigKey as Key, ClientOptions, Error,
    client::{HttpClient, HttpConnector},
};
use reqwest::{
    Certificate, Client, ClientBuilder, NoProxy, Proxy,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use super::service::Service;
use crate::{body::blocking, roots};

/// How long a connection is kept that nobody uses. Stores and what stands before them close theirs after a minute, or a
/// few.
const IDLE: Duration = Duration::from_secs(90);

/// All that a client is built by.
const KEYS: [Key; 19] = [
    Key::AllowHttp,
    Key::AllowInvalidCertificates,
    Key::NoSystemCertificates,
    Key::ConnectTimeout,
    Key::Http1Only,
    Key::Http2KeepAliveInterval,
    Key::Http2KeepAliveTimeout,
    Key::Http2KeepAliveWhileIdle,
    Key::Http2MaxFrameSize,
    Key::Http2Only,
    Key::PoolIdleTimeout,
    Key::PoolMaxIdlePerHost,
    Key::ProxyUrl,
    Key::ProxyCaCertificate,
    Key::ProxyExcludes,
    Key::RandomizeAddresses,
    Key::ReadTimeout,
    Key::Timeout,
    Key::UserAgent,
];

/// The clients of a process's buckets: each has certificates to read and connections to keep.
#[derive(Clone, Default)]
pub struct Clients(Arc<Mutex<HashMap<Vec<Option<String>>, HttpClient>>>);

/// Of the options that a client was built by one may be a proxy's URL, with its password.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    fn client(&self, options: &ClientOptions) -> Result<HttpClient, Error> {
        let values = KEYS.map(|key| options.get_config_value(&key)).to_vec();
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&values) {
            return Ok(client.clone());
        }
        let client = HttpClient::new(build(options)?);
        clients.insert(values, client.clone());
        Ok(client)
    }
}

/// Gives a store its client, and keeps it for requests that the store does not make.
#[derive(Debug, Clone, Default)]
pub(super) struct Connector {
    clients: Clients,
    last: Arc<Mutex<Option<HttpClient>>>,
}

impl Connector {
    pub(super) fn new(clients: &Clients) -> Self {
        Self {
            clients: clients.clone(),
            last: Arc::default(),
        }
    }

    pub(super) fn get(&self) -> Option<HttpClient> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.clients.client(options)?;
        // The last one that a builder asks for is that of the store itself.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }
}

type SetTime = fn(ClientBuilder, Duration) -> ClientBuilder;

fn build(options: &ClientOptions) -> Result<Service, Error> {
    let said = Said(options);
    let mut builder = Client::builder()
        // A redirect cannot take a body along that is read as it is sent, of some kinds it makes a GET, whose answer would
        // pass for that to a write, and it could lead a session's token to another host. Stores send them where
        // region or endpoint are wrong.
        .redirect(redirect::Policy::none())
        .user_agent(
            said.text(Key::UserAgent)
                .unwrap_or_else(|| concat!("callvault/", env!("CARGO_PKG_VERSION")).into()),
        )
        .pool_idle_timeout(said.time(Key::PoolIdleTimeout)?.unwrap_or(IDLE))
        .https_only(!said.is(Key::AllowHttp)?)
        .tls_danger_accept_invalid_certs(said.is(Key::AllowInvalidCertificates)?)
        .http2_keep_alive_while_idle(said.is(Key::Http2KeepAliveWhileIdle)?)
        .http2_max_frame_size(said.number(Key::Http2MaxFrameSize)?);
    if let Some(proxy) = proxy(&said)? {
        builder = builder.proxy(proxy.0).tls_certs_merge(proxy.1);
    }
    builder = if said.is(Key::NoSystemCertificates)? {
        builder.tls_certs_only(authorities())
    } else {
        builder.tls_certs_merge(authorities())
    };
    if let Some(most) = said.number(Key::PoolMaxIdlePerHost)? {
        builder = builder.pool_max_idle_per_host(most);
    }
    let times: [(_, SetTime); 5] = [
        (Key::Timeout, ClientBuilder::timeout),
        (Key::ConnectTimeout, ClientBuilder::connect_timeout),
        (Key::ReadTimeout, ClientBuilder::read_timeout),
        (
            Key::Http2KeepAliveInterval,
            ClientBuilder::http2_keep_alive_interval,
        ),
        (
            Key::Http2KeepAliveTimeout,
            ClientBuilder::http2_keep_alive_timeout,
        ),
    ];
    for (key, set) in times {
        if let Some(time) = said.time(key)? {
            builder = set(builder, time);
        }
    }
    if said.is(Key::Http1Only)? {
        builder = builder.http1_only();
    }
    if said.is(Key::Http2Only)? {
        builder = builder.http2_prior_knowledge();
    }
    if said.is(Key::RandomizeAddresses)? {
        builder = builder.dns_resolver(Shuffled);
    }
    Ok(Service {
        client: builder.build().map_err(unusable)?,
        timeout: said.time(Key::Timeout)?,
    })
}

/// The proxy, and the authority that it has of its own.
fn proxy(said: &Said) -> Result<Option<(Proxy, Vec<Certificate>)>, Error> {
    let Some(url) = said.text(Key::ProxyUrl) else {
        return Ok(None);
    };
    let mut proxy = Proxy::all(url).map_err(unusable)?;
    if let Some(hosts) = said.text(Key::ProxyExcludes) {
        proxy = proxy.no_proxy(NoProxy::from_string(&hosts));
    }
    let authority = said.text(Key::ProxyCaCertificate);
    let authority = authority.map(|pem| Certificate::from_pem(pem.as_bytes()));
    let authority = authority.transpose().map_err(unusable)?;
    Ok(Some((proxy, authority.into_iter().collect())))
}

fn authorities() -> Vec<Certificate> {
    roots::beside_the_environments()
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

/// What the options say, in the words that the store library takes.
struct Said<'a>(&'a ClientOptions);

impl Said<'_> {
    fn text(&self, key: Key) -> Option<String> {
        self.0.get_config_value(&key)
    }

    fn is(&self, key: Key) -> Result<bool, Error> {
        let value = self.text(key).unwrap_or_default().to_ascii_lowercase();
        match value.as_str() {
            "1" | "true" | "on" | "yes" | "y" => Ok(true),
            "" | "0" | "false" | "off" | "no" | "n" => Ok(false),
            _ => Err(no(key, &value, "true or false")),
        }
    }

    fn number<T: FromStr>(&self, key: Key) -> Result<Option<T>, Error> {
        let value = self.text(key);
        let parsed = value.map(|value| value.parse().map_err(|_| no(key, &value, "a number")));
        parsed.transpose()
    }

    fn time(&self, key: Key) -> Result<Option<Duration>, Error> {
        let value = self.text(key);
        let parsed = value.map(|value| {
            humantime::parse_duration(&value).map_err(|_| no(key, &value, "a duration"))
        });
        parsed.transpose()
    }
}

fn no(key: Key, value: &str, what: &str) -> Error {
    let key = key.as_ref();
    unusable(io::Error::other(format!("{key} = {value:?} is not {what}")))
}

fn unusable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic {
        store: "HTTP client",
        source: error.into(),
    }
}

/// The system's resolver, its addresses in an order by chance: a store has many.
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        Box::pin(async move {
            // The port is the URL's.
            let look_up = blocking(move || Ok((host.as_str(), 0).to_socket_addrs()?.collect()));
            let mut found: Vec<SocketAddr> = look_up.await?;
            fastrand::shuffle(&mut found);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

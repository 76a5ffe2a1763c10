//! A name server of the test's own, on 127.0.0.1:53: it answers as told and counts what it is asked.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// What one look-up of a name finds.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// These addresses, in this order, to be forgotten at once.
    At(Vec<IpAddr>),
    /// As many, and the answer is told over TCP alone.
    OverTcp(Vec<IpAddr>),
    /// Another name, and what that one leads to.
    Alias(&'static str, Vec<IpAddr>),
    /// There is no such name.
    Nothing,
    /// The server could not find out.
    Failure,
    /// Never an answer.
    Silence,
}

/// A running name server; it ends with the process, which is the test's own.
pub(crate) struct Dns(Arc<Mutex<Names>>);

#[derive(Default)]
struct Names {
    /// What each look-up of a name finds; the last holds from then on.
    told: HashMap<String, Vec<Found>>,
    /// The questions so far, by name and type.
    asked: HashMap<(String, u16), usize>,
    /// The answers so far: who asks the same again has not understood, and gets the same.
    answered: HashMap<(SocketAddr, Vec<u8>), Found>,
    connections: u64,
}

impl Dns {
    pub(super) fn start() -> Self {
        let names = Arc::new(Mutex::new(Names::default()));
        let at = (Ipv4Addr::LOCALHOST, 53);
        let socket = UdpSocket::bind(at).unwrap();
        let listener = TcpListener::bind(at).unwrap();
        let shared = Arc::clone(&names);
        thread::spawn(move || {
            let mut packet = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut packet).unwrap();
                if let Some(answer) = reply(&shared, &packet[..length], from, false) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let shared = Arc::clone(&names);
        thread::spawn(move || {
            for stream in listener.incoming() {
                shared.lock().unwrap().connections += 1;
                let _ = over_tcp(&shared, stream.unwrap());
            }
        });
        Self(names)
    }

    /// From now on each look-up of a name finds the next of `found`, and the last for ever. Names that
    /// nobody told of are not there.
    pub(crate) fn tell(&self, name: &str, found: impl Into<Vec<Found>>) {
        let mut names = self.0.lock().unwrap();
        names.told.insert(name.to_owned(), found.into());
        names.asked.retain(|(asked, _), _| asked != name);
    }

    /// The same, of a name that leads to these addresses.
    pub(crate) fn at(&self, name: &str, addresses: &[&str]) {
        let found = Found::At(addresses.iter().map(|text| text.parse().unwrap()).collect());
        self.tell(name, [found]);
    }

    /// How many connections there were, ever.
    pub(super) fn connections(&self) -> u64 {
        self.0.lock().unwrap().connections
    }

    /// How often each name was looked up since the last call: a look-up is a question for its IPv4
    /// addresses and one for its IPv6 addresses.
    pub(crate) fn look_ups(&self) -> HashMap<String, usize> {
        let asked = std::mem::take(&mut self.0.lock().unwrap().asked);
        let mut names = HashMap::new();
        for ((name, kind), count) in &asked {
            let other = (name.clone(), if *kind == A { AAAA } else { A });
            assert_eq!(asked.get(&other), Some(count), "both questions of {name}");
            names.insert(name.clone(), *count);
        }
        names
    }
}

fn over_tcp(names: &Mutex<Names>, mut stream: TcpStream) -> io::Result<()> {
    let from = stream.peer_addr()?;
    // glibc asks both questions over one connection.
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut packet)?;
        if let Some(answer) = reply(names, &packet, from, true) {
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_all(&length.to_be_bytes())?;
            stream.write_all(&answer)?;
        }
    }
}

/// The answer to a question (RFC 1035, section 4), where there is to be one.
fn reply(names: &Mutex<Names>, query: &[u8], from: SocketAddr, tcp: bool) -> Option<Vec<u8>> {
    let (name, end) = name(query)?;
    let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
    let found = names.lock().unwrap().find(&name, kind, query, from, tcp);
    let mut records = Vec::new();
    let mut owner = vec![0xc0, 12];
    let mut count = 0;
    // Response, recursion desired and available; then the code.
    let (flags, addresses) = match found {
        Found::Silence => return None,
        Found::Failure => (0x8182, Vec::new()),
        Found::Nothing => (0x8183, Vec::new()),
        Found::OverTcp(_) if !tcp => (0x8380, Vec::new()),
        Found::At(addresses) | Found::OverTcp(addresses) => (0x8180, addresses),
        Found::Alias(other, addresses) => {
            record(&mut records, &owner, CNAME, &labels(other));
            count += 1;
            owner = labels(other);
            (0x8180, addresses)
        }
    };
    for address in addresses {
        match address {
            IpAddr::V4(v4) if kind == A => record(&mut records, &owner, A, &v4.octets()),
            IpAddr::V6(v6) if kind == AAAA => record(&mut records, &owner, AAAA, &v6.octets()),
            _ => continue,
        }
        count += 1;
    }
    let mut answer = query[..2].to_vec();
    for word in [flags, 1, count, 0, 0] {
        answer.extend(u16::to_be_bytes(word));
    }
    answer.extend(&query[12..end + 4]);
    answer.extend(records);
    Some(answer)
}

impl Names {
    fn find(&mut self, name: &str, kind: u16, query: &[u8], from: SocketAddr, tcp: bool) -> Found {
        let told = self.told.get(name).map_or(&[][..], Vec::as_slice);
        // Over UDP such a question is only sent away; it counts where it is answered.
        if let (false, Some(found @ Found::OverTcp(_))) = (tcp, told.last()) {
            return found.clone();
        }
        if let Some(answered) = self.answered.get(&(from, query.to_vec())) {
            return answered.clone();
        }
        let count = self.asked.entry((name.to_owned(), kind)).or_default();
        let found = told.get(*count).or(told.last());
        *count += 1;
        let found = found.cloned().unwrap_or(Found::Nothing);
        self.answered.insert((from, query.to_vec()), found.clone());
        found
    }
}

/// A record of the class Internet with a time to live of 0.
fn record(records: &mut Vec<u8>, owner: &[u8], kind: u16, data: &[u8]) {
    records.extend(owner);
    records.extend(kind.to_be_bytes());
    records.extend([0, 1, 0, 0, 0, 0]);
    records.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    records.extend(data);
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The name of the first question, in lower case, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join(".").to_ascii_lowercase(), at));
        }
        let label = query.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += length;
    }
}

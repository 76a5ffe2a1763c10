//! `[queue]`, `[fetch]`, `[archive]`, `[limits]` and `[http]`: their defaults and their rules.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    Archive, Fetch, Http, Limits, Queue, broker,
    buckets::Names,
    folder::Folder,
    mistake::{Fault, quoted},
    read::Section,
    urls,
    value::Bytes,
};

const MIB: u64 = bytesize::MIB;
const GIB: u64 = bytesize::GIB;

pub(super) fn queue(mut section: Section<'_>, folder: &Folder) -> Queue {
    let declare = section.or("declare", true);
    let routing_keys = section
        .list("routing_keys", |key| short(key, 255))
        .unwrap_or_else(|| vec!["call.analyzed".to_owned()]);
    if declare && routing_keys.is_empty() {
        section.fault(
            "routing_keys",
            Fault::new(
                "without a routing key no event would arrive",
                r#"write at least one, such as ["call.analyzed"]"#,
            ),
        );
    }
    let queue = Queue {
        url: section
            .take("url", |url: SecretString| broker::uri(&url, folder))
            .unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".into()),
        exchange: section.take("exchange", |name| short(name, 255)).unwrap_or_else(|| "calls".to_owned()),
        routing_keys,
        name: section.take("name", queue_name).unwrap_or_else(|| "callvault".to_owned()),
        prefetch: section.number(
            "prefetch",
            1..=65_535,
            "write how many events one worker may hold at once, such as 32 (the broker takes 0 as unlimited)",
            32,
        ),
        retry_delays: retry_delays(&mut section),
        declare,
    };
    section.finish();
    queue
}

fn retry_delays(section: &mut Section<'_>) -> Vec<Duration> {
    const DEFAULT: [u64; 5] = [10, 60, 600, 3_600, 21_600];
    let mut seen = Vec::new();
    let delays = section.list("retry_delays", |delay: Duration| {
        if !delay.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(Fault::new(
                "finer than a millisecond",
                "write whole milliseconds",
            ));
        }
        if seen.contains(&delay) {
            let shown = humantime::format_duration(delay);
            return Err(Fault::new(
                format!("{shown} is in the list already"),
                "write each delay once: each has a queue of its own",
            ));
        }
        seen.push(delay);
        Ok(delay)
    });
    delays.unwrap_or_else(|| DEFAULT.map(Duration::from_secs).to_vec())
}

fn queue_name(name: String) -> Result<String, Fault> {
    if name.starts_with("amq.") {
        return Err(Fault::new(
            format!(
                "{} begins with `amq.`, which the broker keeps for itself",
                quoted(&name)
            ),
            "choose another name",
        ));
    }
    // The names of the retry and dead-letter queues are longer, and also end at 255 bytes.
    short(name, 200)
}

/// AMQP's names are at most 255 bytes; an empty one has a meaning of its own, never meant here.
fn short(name: String, most: usize) -> Result<String, Fault> {
    match name.len() {
        0 => Err(Fault::new(
            "an empty name",
            "write a name, or leave the key out for its default",
        )),
        length if length > most => Err(Fault::new(
            format!("{length} bytes long"),
            format!("write at most {most} bytes"),
        )),
        _ => Ok(name),
    }
}

pub(super) fn fetch(mut section: Section<'_>) -> Fetch {
    let fetch = Fetch {
        allowed_hosts: section
            .list("allowed_hosts", |host: String| urls::host_pattern(&host))
            .unwrap_or_else(|| vec!["*".to_owned()]),
        allow_http: section.or("allow_http", false),
        allow_private_addresses: section.or("allow_private_addresses", false),
        connect_timeout: section.or("connect_timeout", Duration::from_secs(5)),
        read_timeout: section.or("read_timeout", Duration::from_secs(30)),
        max_redirects: section.number(
            "max_redirects",
            0..=20,
            "write how many redirects to follow, such as 3",
            3,
        ),
        refusals: section.number(
            "refusals",
            1..=1_000,
            "write the attempt at which a refusal is final: 1 for the first, 3 by default",
            3,
        ),
    };
    section.finish();
    fetch
}

pub(super) fn archive(mut section: Section<'_>, names: &Names) -> Archive {
    let archive = Archive {
        key: section.or("key", "{date}/{call_id}/{request_id}/{file}".to_owned()),
        manifest_bucket: bucket_or(&mut section, "manifest_bucket", "documents", names),
        quarantine_bucket: bucket_or(&mut section, "quarantine_bucket", "quarantine", names),
        include_event: section.or("include_event", true),
    };
    section.finish();
    archive
}

/// The default name has to lead to a bucket too.
fn bucket_or(section: &mut Section<'_>, key: &'static str, default: &str, names: &Names) -> String {
    if !section.has(key)
        && let Err(fault) = names.judge(default.to_owned())
    {
        section.fault(
            key,
            Fault::new(format!("{} (the default)", fault.what), fault.mend),
        );
    }
    section
        .take(key, |name| names.judge(name))
        .unwrap_or_else(|| default.to_owned())
}

pub(super) fn limits(mut section: Section<'_>, fetch: &Fetch, folder: &Folder) -> Limits {
    let limits = Limits {
        memory: section.or("memory", Bytes(256 * MIB)).0,
        spool: section.or("spool", Bytes(20 * GIB)).0,
        spool_dir: spool_dir(&mut section, folder),
        job_time: section.or("job_time", Duration::from_mins(20)),
    };
    if limits.job_time <= fetch.read_timeout {
        let (job, read) = (limits.job_time, fetch.read_timeout);
        section.fault(
            "job_time",
            Fault::new(
                format!(
                    "{} for a whole event is no longer than fetch.read_timeout, {}",
                    humantime::format_duration(job),
                    humantime::format_duration(read),
                ),
                "make job_time the longer of the two",
            ),
        );
    }
    section.finish();
    limits
}

fn spool_dir(section: &mut Section<'_>, folder: &Folder) -> PathBuf {
    let default = || "/var/tmp".to_owned();
    let given = section.has("spool_dir");
    let written = section.or("spool_dir", default());
    let path = folder.absolute(&written);
    if !path.is_dir() {
        let which = if given { "" } else { " (the default)" };
        section.fault(
            "spool_dir",
            Fault::new(
                format!(
                    "there is no directory {}{which}",
                    quoted(&path.to_string_lossy())
                ),
                "create it, or name a directory on a disk with room for limits.spool",
            ),
        );
    }
    path
}

pub(super) fn http(mut section: Section<'_>) -> Http {
    let default = SocketAddr::from(([127, 0, 0, 1], 9090));
    let listen = section.take("listen", |address: String| {
        address.parse().map_err(|_| {
            Fault::new(
                format!("{} is not an address and a port", quoted(&address)),
                r#"write both, such as "127.0.0.1:9090", or "0.0.0.0:9090" for all interfaces"#,
            )
        })
    });
    section.finish();
    Http {
        listen: listen.unwrap_or(default),
    }
}

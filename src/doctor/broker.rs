//! Is the broker as callvault needs it? Looked at without declaring, consuming or publishing anything that stays.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Finding,
    configuration::{TIME_OUT, job_time},
};
use crate::{
    config,
    queue::{
        Greeting, QueueError,
        examine::{Examiner, Publishing, Queue, Right, There},
        greeting,
    },
    telemetry::{chain, plain},
};

/// Quorum queues that let go of a dead letter only once its target has it.
const OLDEST: (u32, u32, u32) = (3, 10, 0);

const IMPORT: &str =
    "import deploy/rabbitmq/definitions.json with your names in it, or set queue.declare = true";

/// Tries the broker.
pub async fn broker(settings: &config::Queue, job: Duration) -> Vec<Finding> {
    // First, for it takes no more than it says: a handshake is given up late, and keeps a thread.
    let greeting = match greeting(&settings.url).await {
        Ok(greeting) => greeting,
        Err(error) => return vec![unusable(&error)],
    };
    let examiner = match Examiner::connect(settings).await {
        Ok(examiner) => examiner,
        Err(error) => return vec![unusable(&error)],
    };
    let mut visit = Visit {
        settings,
        examiner,
        findings: Vec::new(),
    };
    visit.tell(&greeting, job);
    if let Err(error) = visit.look().await {
        visit.findings.push(unusable(&error));
    }
    visit.findings
}

fn unusable(error: &QueueError) -> Finding {
    Finding::unreachable("broker", chain(error), error.remedy())
}

struct Visit<'a> {
    settings: &'a config::Queue,
    examiner: Examiner,
    findings: Vec<Finding>,
}

/// What is there.
struct Topology {
    exchange: There<()>,
    /// The work queue, the dead-letter queue, then the queues of the delays.
    queues: Vec<(String, There<Queue>)>,
}

/// What callvault's user may not do, with what.
#[derive(Default)]
struct Lacking(BTreeMap<&'static str, Vec<String>>);

impl Lacking {
    fn add(&mut self, deed: &'static str, with: &str) {
        self.0.entry(deed).or_default().push(format!("{with:?}"));
    }

    fn in_words(&self) -> String {
        let deeds = self.0.iter();
        let deeds = deeds.map(|(deed, with)| format!("{deed} {}", with.join(", ")));
        deeds.collect::<Vec<_>>().join("; nor ")
    }
}

impl Visit<'_> {
    fn tell(&mut self, greeting: &Greeting, job: Duration) {
        let Greeting { product, version } = greeting;
        let examiner = &self.examiner;
        self.findings.push(Finding::ok(
            "broker",
            plain(&format!(
                "{product} {version}, user {}, virtual host {}, heartbeats every {} s, frames of {} KiB",
                examiner.user(),
                examiner.virtual_host(),
                examiner.heartbeat(),
                examiner.frame_max() / 1024,
            )),
        ));
        let Some(version) = greeting.rabbitmq() else {
            self.findings.push(Finding::weak(
                "broker",
                "it does not call itself RabbitMQ: its quorum queues, delivery limits and dead-lettering are not known to be \
                 what callvault relies on",
                "use RabbitMQ 3.10 or newer",
            ));
            return;
        };
        if version < OLDEST {
            self.findings.push(Finding::weak(
                "broker",
                "RabbitMQ before 3.10 can lose a message on its way from one queue to another",
                "update it",
            ));
        }
        // What differs from the usual is found by the configuration alone.
        let time_out = time_out(version);
        if let Some(time_out) = time_out.filter(|time_out| *time_out != TIME_OUT) {
            let by = "unless its consumer_timeout says otherwise";
            self.findings.extend(job_time(job, time_out, by));
        }
    }

    async fn look(&mut self) -> Result<(), QueueError> {
        let topology = self.topology().await?;
        self.rights(&topology).await?;
        self.missing(&topology);
        self.counts(&topology);
        Ok(())
    }

    async fn topology(&self) -> Result<Topology, QueueError> {
        let mut queues = Vec::new();
        for name in Examiner::names(self.settings) {
            let queue = self.examiner.queue(&name).await?;
            queues.push((name, queue));
        }
        let exchange = self.examiner.exchange(&self.settings.exchange).await?;
        Ok(Topology { exchange, queues })
    }

    fn missing(&mut self, topology: &Topology) {
        let exchange = &self.settings.exchange;
        let missing: Vec<_> = topology
            .queues
            .iter()
            .filter(|(_, queue)| *queue == There::No)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut words = Vec::new();
        if topology.exchange == There::No {
            words.push(format!("exchange {exchange}"));
        }
        if !missing.is_empty() {
            words.push(format!("queues {}", missing.join(", ")));
        }
        let words = words.join("; ");
        // What cannot be seen is a right that lacks, and told as such.
        let queues = topology.queues.iter();
        let mut unseen = queues.map(|(_, queue)| *queue == There::Unseen);
        if words.is_empty() && (topology.exchange == There::Unseen || unseen.any(|unseen| unseen)) {
            return;
        }
        self.findings.push(match (words.is_empty(), self.settings.declare) {
            (true, _) => Finding::ok(
                "topology",
                plain(&format!(
                    "exchange {exchange} and {} queues are there (AMQP does not show bindings: rabbitmqctl list_bindings)",
                    topology.queues.len(),
                )),
            ),
            (false, true) => Finding::ok("topology", plain(&format!("`run` will declare {words}"))),
            (false, false) => Finding::unreachable(
                "topology",
                plain(&format!("not there, and queue.declare is false: {words}")),
                IMPORT,
            ),
        });
    }

    /// What `run` needs, and then the desk.
    async fn rights(&mut self, topology: &Topology) -> Result<(), QueueError> {
        let (declare, exchange) = (self.settings.declare, &self.settings.exchange);
        let [(work, _), (dead, _), ..] = &topology.queues[..] else {
            return Ok(());
        };
        let (mut lacking, mut blind) = (Lacking::default(), false);
        let may = Right::ConfigureExchange(exchange.clone());
        match (self.examiner.may(&may).await?, topology.exchange) {
            (true, There::Yes(())) => self.compare(None).await?,
            (false, _) if declare => lacking.add("configure", exchange),
            (false, There::Yes(())) => blind = true,
            (_, There::Unseen) => lacking.add("see", exchange),
            _ => {}
        }
        for (name, found) in &topology.queues {
            let may = Right::ConfigureQueue(name.clone());
            match (self.examiner.may(&may).await?, found) {
                (true, There::Yes(_)) => self.compare(Some(name)).await?,
                (false, _) if declare => lacking.add("configure", name),
                (false, There::Yes(_)) => blind = true,
                (_, There::Unseen) => lacking.add("see", name),
                _ => {}
            }
            // Who declares a queue that leads to another one has to be able to read it.
            let declares = declare && !matches!(found, There::Yes(_)) && name != dead;
            if (name == work || declares) && !self.examiner.may(&Right::Read(name.clone())).await? {
                lacking.add("read from", name);
            }
        }
        if declare {
            let (queue, exchange) = (work.clone(), exchange.clone());
            if !self.examiner.may(&Right::Bind { queue, exchange }).await? {
                lacking.add("bind (write to the queue, read from the exchange)", work);
            }
        }
        let granted = plain(&self.granted(work));
        let desk = self.examiner.may(&Right::Read(dead.clone())).await?;
        // The last of all: a broker that blocks publishers listens to nothing that comes after it.
        match self.examiner.publishing().await? {
            Publishing::Works => {}
            Publishing::Refused => lacking.add("publish to queues by their names: write to", "amq.default"),
            Publishing::Blocked => self.findings.push(Finding::weak(
                "broker",
                "it takes nothing from publishers, under a memory or disk alarm: retries and dead letters wait until that is \
                 over, and so do new events",
                "`rabbitmq-diagnostics alarms` says which: give it memory or disk, or work its queues off",
            )),
        }
        if lacking.0.is_empty() {
            let all = if declare {
                "configure, write and read"
            } else {
                "write and read"
            };
            let but = if blind {
                "; arguments were not looked at, which takes the right to configure"
            } else {
                ""
            };
            let detail = format!("{all}, as callvault needs it{but}");
            self.findings.push(Finding::ok("rights", detail));
        } else {
            let detail = plain(&format!("callvault's user may not {}", lacking.in_words()));
            self.findings
                .push(Finding::unreachable("rights", detail, granted.clone()));
        }
        if !desk {
            let detail = format!(
                "callvault's user may not read from {dead:?}: `callvault dead` needs another user"
            );
            self.findings
                .push(Finding::weak("rights", plain(&detail), granted));
        }
        Ok(())
    }

    /// Whether a queue, or the exchange, is as callvault would declare it; if not, says so.
    async fn compare(&mut self, queue: Option<&str>) -> Result<(), QueueError> {
        match self.examiner.compare(self.settings, queue).await {
            Ok(()) => {}
            Err(error @ QueueError::Mismatch { .. }) if self.settings.declare => {
                self.findings
                    .push(Finding::unreachable("topology", chain(&error), ""));
            }
            Err(QueueError::Mismatch {
                what,
                argument,
                wanted,
                found,
            }) => self.findings.push(Finding::weak(
                "topology",
                plain(&format!(
                    "of the {what} {argument} is {found}, and callvault would declare {wanted}: {}",
                    follows(&argument)
                )),
                "if no policy sets it, which AMQP does not show: empty and delete it, and import \
                 deploy/rabbitmq/definitions.json",
            )),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn counts(&mut self, topology: &Topology) {
        let [
            (_, There::Yes(work)),
            (dead, There::Yes(letters)),
            retries @ ..,
        ] = &topology.queues[..]
        else {
            return;
        };
        let ready = retries.iter().filter_map(|(_, queue)| match queue {
            There::Yes(queue) => Some(queue.ready),
            _ => None,
        });
        let waiting: u32 = ready.sum();
        let letters = match letters.ready {
            0 => "no dead letters".to_owned(),
            count => format!("{count} dead letters in {dead} (callvault dead list)"),
        };
        self.findings.push(Finding::ok(
            "messages",
            format!(
                "{} wait to be taken, {} consumers are at work, {waiting} wait for another try, {letters}",
                work.ready, work.consumers,
            ),
        ));
    }

    /// The command that gives the user what callvault and its desk need. RabbitMQ 4.3 asks for some right to a queue that
    /// is looked for.
    fn granted(&self, work: &str) -> String {
        let name = |name: &str| name.replace('.', "\\.");
        let (exchange, queue) = (name(&self.settings.exchange), name(work));
        let all = format!("^({exchange}|{queue}|{queue}\\..*)$");
        let (configure, write) = if self.settings.declare {
            let write = format!("^({queue}|{queue}\\..*|amq\\.default)$");
            (all.as_str(), write)
        } else {
            ("^$", "^amq\\.default$".to_owned())
        };
        format!(
            "rabbitmqctl set_permissions -p '{}' '{}' '{configure}' '{write}' '{all}'",
            self.examiner.virtual_host(),
            self.examiner.user(),
        )
    }
}

/// What follows from an argument that is another one.
fn follows(argument: &str) -> &'static str {
    match argument {
        "x-queue-type" => {
            "only quorum queues are kept by several nodes, and count how often a message came back"
        }
        "x-delivery-limit" => {
            "a message that kills its worker comes back too seldom or for ever, and RabbitMQ 4 deletes dead letters that were \
             looked at 20 times"
        }
        "x-message-ttl" => "what waits there for another try comes back at another time, or never",
        "x-dead-letter-exchange" | "x-dead-letter-routing-key" => {
            "what is over, or came back too often, goes elsewhere, or is lost"
        }
        "type" => "bindings of another type say which events come, and not queue.routing_keys",
        "x-dead-letter-strategy" | "x-overflow" => {
            "a message can be lost on its way from one queue to another"
        }
        _ => "callvault was not tested with it",
    }
}

/// After which time that version takes a delivery back, unless it is told otherwise; before 3.8.15 it does not.
fn time_out(version: (u32, u32, u32)) -> Option<Duration> {
    if version < (3, 8, 15) {
        return None;
    }
    Some(if version < (3, 8, 17) {
        Duration::from_mins(15)
    } else {
        TIME_OUT
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acknowledgement_time_out_is_known_by_version() {
        for (version, minutes) in [
            ((3, 7, 28), None),
            ((3, 8, 14), None),
            ((3, 8, 16), Some(15)),
            ((3, 8, 17), Some(30)),
            ((4, 3, 6), Some(30)),
        ] {
            assert_eq!(
                time_out(version),
                minutes.map(Duration::from_mins),
                "{version:?}"
            );
        }
    }
}

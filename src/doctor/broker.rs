//! Is the broker as callvault needs it? Looked at without declaring, consuming or publishing anything that stays.

use std::time::Duration;

use super::{
    Finding,
    configuration::{TIME_OUT, job_time},
};
use crate::{
    config,
    queue::{
        Greeting, QueueError,
        examine::{Examiner, Publishing, Queue, Right},
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
    // What it does not tell of itself is no reason not to look further.
    let greeting = greeting(&settings.url).await.ok();
    let examiner = match Examiner::connect(settings).await {
        Ok(examiner) => examiner,
        Err(error) => return vec![unusable(&error)],
    };
    let mut visit = Visit {
        settings,
        examiner,
        findings: Vec::new(),
    };
    visit.tell(greeting.as_ref(), job);
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
    exchange: bool,
    queues: Vec<(String, Option<Queue>)>,
}

impl Topology {
    fn missing(&self) -> Vec<String> {
        let queues = self.queues.iter().filter(|(_, queue)| queue.is_none());
        queues.map(|(name, _)| format!("queue {name:?}")).collect()
    }
}

impl Visit<'_> {
    fn tell(&mut self, greeting: Option<&Greeting>, job: Duration) {
        let (product, version) = greeting.map_or(("a broker", ""), |greeting| {
            (&*greeting.product, &*greeting.version)
        });
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
        let Some(version) = greeting.and_then(Greeting::rabbitmq) else {
            if greeting.is_some() {
                self.findings.push(Finding::weak(
                    "broker",
                    "it does not call itself RabbitMQ: its quorum queues, delivery limits and dead-lettering are not known to \
                     be what callvault relies on",
                    "use RabbitMQ 3.10 or newer",
                ));
            }
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
        let mut missing = topology.missing();
        if !topology.exchange {
            missing.insert(0, format!("exchange {:?}", self.settings.exchange));
        }
        let count = topology.queues.len();
        match (missing.is_empty(), self.settings.declare) {
            (true, _) => self.findings.push(Finding::ok(
                "topology",
                format!(
                    "exchange {:?} and {count} queues are there (bindings cannot be seen by AMQP: rabbitmqctl list_bindings)",
                    self.settings.exchange
                ),
            )),
            (false, true) => self.findings.push(Finding::ok(
                "topology",
                format!("`run` will declare {}", missing.join(", ")),
            )),
            (false, false) => self.findings.push(Finding::unreachable(
                "topology",
                format!("is not there, and queue.declare is false: {}", missing.join(", ")),
                IMPORT,
            )),
        }
    }

    /// What `run` needs, and then the desk.
    async fn rights(&mut self, topology: &Topology) -> Result<(), QueueError> {
        let (declare, exchange) = (self.settings.declare, &self.settings.exchange);
        let (work, dead) = match &topology.queues[..] {
            [(work, _), (dead, _), ..] => (work.clone(), dead.clone()),
            _ => return Ok(()),
        };
        let mut lacking = Vec::new();
        let mut compared = 0;
        let configures = Right::ConfigureExchange(exchange.clone());
        match (self.examiner.may(&configures).await?, topology.exchange) {
            (true, true) => compared += usize::from(self.compare(None).await?),
            (false, _) if declare => lacking.push(format!("configure the exchange {exchange:?}")),
            _ => {}
        }
        for (name, found) in &topology.queues {
            let configures = Right::ConfigureQueue(name.clone());
            match (self.examiner.may(&configures).await?, found) {
                (true, Some(_)) => compared += usize::from(self.compare(Some(name)).await?),
                (false, _) if declare => lacking.push(format!("configure the queue {name:?}")),
                _ => {}
            }
            // It leads to another one, and who declares it has to be able to read it.
            let needed = *name == work || declare && found.is_none() && *name != dead;
            if needed && !self.examiner.may(&Right::Read(name.clone())).await? {
                lacking.push(format!("read from the queue {name:?}"));
            }
        }
        if declare {
            let (queue, exchange) = (work.clone(), exchange.clone());
            if !self.examiner.may(&Right::Bind { queue, exchange }).await? {
                lacking.push(format!(
                    "bind the queue {work:?} (write to it, read from the exchange)"
                ));
            }
        }
        match self.examiner.publishing().await? {
            Publishing::Works => {}
            Publishing::Refused => {
                lacking.push("publish to queues by their name (write to \"amq.default\")".into());
            }
            Publishing::Blocked => self.findings.push(Finding::weak(
                "broker",
                "it takes nothing from publishers, under a memory or disk alarm: retries and dead letters wait until that is \
                 over, and so do new events",
                "rabbitmq-diagnostics alarms says which: give it memory or disk, or work its queues off",
            )),
        }
        let granted = self.granted(&work, &dead);
        if lacking.is_empty() {
            let all = if declare {
                "configure, write and read"
            } else {
                "write and read"
            };
            let alike = match compared {
                0 => "; arguments were not compared, which takes the right to configure".to_owned(),
                count => format!("; {count} declarations were compared"),
            };
            self.findings.push(Finding::ok(
                "rights",
                format!("{all}, as callvault needs it{alike}"),
            ));
        } else {
            let detail = format!("callvault's user may not {}", lacking.join(", nor "));
            self.findings.push(Finding::unreachable(
                "rights",
                plain(&detail),
                plain(&granted),
            ));
        }
        if !self.examiner.may(&Right::Read(dead.clone())).await? {
            self.findings.push(Finding::weak(
                "rights",
                plain(&format!(
                    "callvault's user may not read from the queue {dead:?}: `callvault dead` needs another user"
                )),
                plain(&granted),
            ));
        }
        Ok(())
    }

    /// Whether a queue, or the exchange, is as callvault would declare it; if not, says so.
    async fn compare(&mut self, queue: Option<&str>) -> Result<bool, QueueError> {
        match self.examiner.compare(self.settings, queue).await {
            Ok(()) => Ok(true),
            Err(error @ QueueError::Mismatch { .. }) if self.settings.declare => {
                self.findings
                    .push(Finding::unreachable("topology", chain(&error), ""));
                Ok(true)
            }
            Err(QueueError::Mismatch {
                what,
                argument,
                wanted,
                found,
            }) => {
                self.findings.push(Finding::weak(
                    "topology",
                    plain(&format!(
                        "the {what} has {argument} {found}, where callvault would declare {wanted}: {}",
                        follows(&argument)
                    )),
                    "set it by a policy, which AMQP does not show, or empty and delete it and import \
                     deploy/rabbitmq/definitions.json",
                ));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn counts(&mut self, topology: &Topology) {
        let [(_, Some(work)), (dead, Some(letters)), retries @ ..] = &topology.queues[..] else {
            return;
        };
        let waiting: u32 = retries
            .iter()
            .filter_map(|(_, queue)| Some(queue.as_ref()?.ready))
            .sum();
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

    /// The command that gives the user what callvault needs, and no more.
    fn granted(&self, work: &str, dead: &str) -> String {
        let name = |name: &str| name.replace('.', "\\.");
        let (exchange, queue) = (name(&self.settings.exchange), name(work));
        let dead = name(dead);
        let (configure, write, read) = if self.settings.declare {
            let all = format!("^({exchange}|{queue}|{queue}\\..*)$");
            let write = format!("^({queue}|{queue}\\..*|amq\\.default)$");
            (all.clone(), write, all)
        } else {
            (
                "^$".into(),
                "^amq\\.default$".into(),
                format!("^({queue}|{dead})$"),
            )
        };
        format!(
            "rabbitmqctl set_permissions -p '{}' '{}' '{configure}' '{write}' '{read}'",
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

//! What is looked up when it is asked for.

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};

use crate::status::Snapshot;

#[derive(Debug)]
pub(super) struct Gauges {
    ready: IntGauge,
    broker_connected: IntGauge,
    in_flight: IntGauge,
    prefetch: IntGauge,
    oldest: Gauge,
    buffered: IntGauge,
    buffered_limit: IntGauge,
    spooled: IntGauge,
    spooled_limit: IntGauge,
    store_waiting: IntGaugeVec,
    queue_messages: IntGaugeVec,
    build: IntGaugeVec,
}

impl Gauges {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        fn kept<C: Collector + Clone + 'static>(
            registry: &Registry,
            gauge: prometheus::Result<C>,
        ) -> prometheus::Result<C> {
            let gauge = gauge?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        }
        let one = |name: &str, help: &str| kept(registry, IntGauge::new(name, help));
        let each = |name: &str, help: &str, label: &str| {
            kept(registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        Ok(Self {
            // What `/readyz` says, for alerts: only Prometheus asks both in one place.
            ready: one("callvault_ready", "1 while /readyz answers 200.")?,
            broker_connected: one(
                "callvault_broker_connected",
                "1 while there is a session with the broker, in which deliveries are taken.",
            )?,
            in_flight: one("callvault_in_flight_events", "Events at work.")?,
            // How many of them there may be: at this many the worker is busy.
            prefetch: one(
                "callvault_prefetch",
                "The most events that may be at work (queue.prefetch).",
            )?,
            // One that hangs is in no histogram before its end.
            oldest: kept(
                registry,
                Gauge::new(
                    "callvault_oldest_event_seconds",
                    "The age of the oldest event at work.",
                ),
            )?,
            buffered: one(
                "callvault_buffered_bytes",
                "Memory taken for attachments: bodies, parsed JSON, parts in flight, long events.",
            )?,
            // Near them a worker takes turns instead of working side by side.
            buffered_limit: one(
                "callvault_buffered_bytes_limit",
                "What callvault_buffered_bytes can come to.",
            )?,
            spooled: one("callvault_spooled_bytes", "Room taken in limits.spool_dir.")?,
            spooled_limit: one(
                "callvault_spooled_bytes_limit",
                "What callvault_spooled_bytes can come to (limits.spool).",
            )?,
            store_waiting: each(
                "callvault_store_waiting",
                "Operations that wait for a bucket that does not work; 0 while it does.",
                "bucket",
            )?,
            // A queue grows while nothing is wrong in any worker; and dead letters stay when their alert is over.
            queue_messages: each(
                "callvault_queue_messages",
                "Messages ready in a queue, as the broker counted them lately; absent while it is not known.",
                "queue",
            )?,
            // Which version did that: while one replaces another there are two.
            build: each(
                "callvault_build_info",
                "Always 1; its label says which version runs.",
                "version",
            )?,
        })
    }

    pub(super) fn set(&mut self, now: &Snapshot) {
        self.ready.set(now.not_ready.is_empty().into());
        self.broker_connected.set(now.broker.connected.into());
        self.in_flight.set(whole(now.in_flight.len()));
        self.prefetch.set(whole(now.prefetch));
        let oldest = now.in_flight.first().map(|event| event.age);
        self.oldest.set(oldest.unwrap_or_default().as_secs_f64());
        self.buffered.set(whole(now.memory.used));
        self.buffered_limit.set(whole(now.memory.of));
        self.spooled.set(whole(now.spool.used));
        self.spooled_limit.set(whole(now.spool.of));
        for part in &now.parts {
            if let Some(bucket) = &part.bucket {
                let waiting = part.down.as_ref().map_or(0, |down| down.waiting);
                self.store_waiting
                    .with_label_values(&[bucket])
                    .set(whole(waiting));
            }
        }
        // What was counted before the session broke is of another time.
        self.queue_messages.reset();
        for queue in &now.queues {
            self.queue_messages
                .with_label_values(&[&queue.name])
                .set(whole(queue.messages));
        }
        self.build.with_label_values(&[now.version]).set(1);
    }
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

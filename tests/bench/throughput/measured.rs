//! What was measured of a workload, and its table.

use std::collections::BTreeMap;

use crate::{
    args::{Args, Who},
    idle::{Idle, Idles},
    run::Run,
    table::{markdown, median, number},
    targets::Figures,
    workloads::{Place, Workload},
};

/// Each round's runs of a workload.
pub(crate) struct Measured {
    workload: &'static Workload,
    idles: Idles,
    /// In the rounds' order.
    runs: BTreeMap<Who, Vec<Run>>,
}

impl Measured {
    pub(crate) fn new(workload: &'static Workload, idles: &Idles) -> Self {
        Self {
            workload,
            idles: idles.clone(),
            runs: BTreeMap::new(),
        }
    }

    /// The next round's.
    pub(crate) fn add(&mut self, who: Who, run: Run) {
        self.runs.entry(who).or_default().push(run);
    }

    /// The rounds' median of something; none where a contender took no part.
    fn median(&self, who: Who, of: impl Fn(&Run) -> f64) -> Option<f64> {
        median(self.runs.get(&who)?.iter().map(of))
    }

    /// The median of the ratios within each round, of CPU or time. What a worker takes to start is no event's cost,
    /// and would flatter who starts fast.
    fn ratio(
        &self,
        who: Who,
        to: Who,
        of: fn(&Run) -> f64,
        start: fn(&Idle) -> f64,
    ) -> Option<f64> {
        // The pipes' own start is in their figures: they are processes for each run.
        let both = self.idles.contains_key(&who) && self.idles.contains_key(&to);
        let idle = |who: Who| self.idles.get(&who).filter(|_| both).map_or(0.0, start);
        let of = |who: Who, run: &Run| of(run) - idle(who);
        let (own, theirs) = (self.runs.get(&who)?.iter(), self.runs.get(&to)?.iter());
        median(
            own.zip(theirs)
                .map(|(own, theirs)| of(who, own) / of(to, theirs)),
        )
    }

    fn cpu_ratio(&self, who: Who, to: Who) -> Option<f64> {
        self.ratio(who, to, |run| run.used.cpu.total(), |idle| idle.cpu)
    }

    fn rate_ratio(&self, who: Who, to: Who) -> Option<f64> {
        // Who takes half as long does twice as many.
        self.ratio(to, who, |run| run.wall, |idle| idle.wall)
    }

    /// For the targets.
    pub(crate) fn figures(&self, args: &Args) -> Figures {
        let mut figures = Figures::default();
        let events = self.workload.events(args) as f64;
        let name = |what: &str| format!("{} {what}", self.workload.name);
        for who in args.callvaults() {
            figures.add(name("python"), who, self.cpu_ratio(who, Who::Python));
            figures.add(name("limit"), who, self.cpu_ratio(who, Who::Limit));
            figures.add(name("rate"), who, self.rate_ratio(who, Who::Python));
            figures.add(name("rss"), who, self.median(who, |run| run.used.memory));
            figures.add(
                name("GET"),
                who,
                self.median(who, |run| run.requests.gets as f64 / events),
            );
            figures.add(
                name("PUT"),
                who,
                self.median(who, |run| run.requests.puts as f64 / events),
            );
        }
        figures
    }

    /// Its title and its table.
    pub(crate) fn report(&self, args: &Args) -> String {
        let Workload { name, place, .. } = *self.workload;
        let events = self.workload.events(args) as f64;
        let bytes = events * self.workload.bytes() as f64;
        let (unit, amount) = if name.starts_with("w1") {
            ("1000 events", events / 1000.0)
        } else {
            ("GiB", bytes / f64::from(1 << 30))
        };
        let row = |who: Who| {
            let per = |of: fn(&Run) -> f64| self.median(who, |run| of(run) / amount);
            // One request after the other: it is a limit of costs, not of speed.
            let rate = |amount: f64| {
                let rate = self.median(who, |run| amount / run.wall);
                rate.filter(|_| who != Who::Limit)
            };
            let requests = |of: fn(&Run) -> usize| self.median(who, |run| of(run) as f64 / events);
            let cells = [
                (per(|run| run.used.cpu.total()), 2),
                (per(|run| run.used.cpu.user), 2),
                (per(|run| run.used.cpu.system), 2),
                (self.cpu_ratio(who, Who::Python), 2),
                (self.cpu_ratio(who, Who::Limit), 2),
                (self.median(who, |run| run.used.memory), 0),
                (rate(events), 1),
                (rate(bytes / 1e6), 1),
                (requests(|run| run.requests.gets), 2),
                (
                    requests(|run| run.requests.puts).filter(|_| place == Place::Sink),
                    2,
                ),
                (per(|run| run.broker), 2),
                (per(|run| run.store).filter(|_| place == Place::S3), 2),
                (per(|run| run.nginx), 2),
            ];
            let cells = cells
                .into_iter()
                .map(|(value, digits)| number(value, digits));
            [who.name().to_owned()].into_iter().chain(cells).collect()
        };
        let took_part = Who::ALL
            .into_iter()
            .filter(|who| self.runs.contains_key(who));
        let header = [
            name, "CPU s", "user", "system", "/ python", "/ limit", "RSS MiB", "events/s", "MB/s",
            "GET", "PUT", "broker", "store", "nginx",
        ];
        format!(
            "\n**{name}**: {}. CPU seconds a {unit}, the servers' too; requests an event; median of {}.\n\n{}",
            self.workload.about(args),
            args.rounds,
            markdown(&header, took_part.map(row).collect())
        )
    }
}

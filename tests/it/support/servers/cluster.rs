//! Three brokers that are one.

use std::time::Duration;

use super::{Conf, Kind, Server};
use crate::support::wait::eventually;

/// A cluster of three RabbitMQ nodes of one test's own; each may be killed and come back. A quorum
/// queue has a member on each.
pub(crate) struct Cluster {
    nodes: Vec<Server>,
    /// Goes last: the nodes' folders lie in its own.
    _common: Server,
}

impl Cluster {
    /// Starts a new one, and waits until all nodes answer and know each other.
    pub(crate) async fn start() -> Self {
        Self::start_with(&Conf::default()).await
    }

    /// Starts a new one with more configuration on each node.
    pub(crate) async fn start_with(conf: &Conf) -> Self {
        let common = Server::start(Kind::Cluster).await;
        // Side by side: they find each other, and agree who is first.
        let mut nodes: Vec<_> = ["1", "2", "3"]
            .map(|name| {
                let dir = common.dir().join(name);
                conf.write(&dir);
                Server::spawn(Kind::RabbitMq, dir)
            })
            .into();
        for node in &mut nodes {
            node.ready().await;
        }
        nodes[0].rabbitmqctl(&["await_online_nodes", "3", "--timeout", "30"]);
        Self {
            nodes,
            _common: common,
        }
    }

    /// Where each node answers, the same after a restart.
    pub(crate) fn urls(&self) -> Vec<&str> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// Where one node answers.
    pub(crate) fn url(&self, node: usize) -> &str {
        self.nodes[node].url()
    }

    /// Ends one node like a crash.
    pub(crate) async fn kill9(&mut self, node: usize) {
        self.nodes[node].kill9().await;
    }

    /// Starts a killed node again, with the data and the ports that it had, and waits until it answers.
    pub(crate) async fn restart(&mut self, node: usize) {
        self.nodes[node].restart().await;
    }

    /// Runs `rabbitmqctl` on one node; what it printed.
    pub(crate) fn rabbitmqctl(&self, node: usize, arguments: &[&str]) -> String {
        self.nodes[node].rabbitmqctl(arguments)
    }

    /// The node that leads a quorum queue; waits for the election after a leader was killed.
    pub(crate) async fn leader_of(&mut self, queue: &str) -> usize {
        let what = format!("a leader of {queue}");
        eventually(Duration::from_secs(30), &what, async || {
            let alive: Vec<_> = self.nodes.iter_mut().map(Server::is_running).collect();
            let asked = alive.iter().position(|alive| *alive)?;
            let answer = self.rabbitmqctl(
                asked,
                &["list_queues", "-q", "--no-table-headers", "name", "leader"],
            );
            let leader = answer
                .lines()
                .find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'))?;
            let leader = self.nodes.iter().position(|node| node.node() == leader)?;
            // Until another is elected, the answer is the one that was.
            alive[leader].then_some(leader)
        })
        .await
    }
}

//! `cargo bench --bench throughput`: what callvault costs, beside what the job must cost.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report is what this is for"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "no amount here has more than 52 bits"
)]
#![allow(dead_code, reason = "scenarios follow")]

mod access;
mod args;
mod bench;
mod broker;
mod events;
mod pipe;
mod procs;
mod run;
mod servers;
mod stores;
mod table;
mod tail;
mod wait;
mod worker;
mod workloads;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{args::Args, bench::Bench, workloads::WORKLOADS};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    // Fails only where one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Whatever is running is ended by being dropped.
        tokio::select! {
            done = measure(Args::parse()) => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(args: Args) -> Result<()> {
    if args.list {
        for workload in &WORKLOADS {
            println!("{:10} {}", workload.name, workload.about());
        }
        return Ok(());
    }
    for name in &args.only {
        let known = WORKLOADS.iter().any(|workload| workload.name == name);
        ensure!(
            known,
            "--only: there is no {name:?}; --list says what there is"
        );
    }
    let bench = Bench::start(args).await?;
    for workload in &WORKLOADS {
        let asked = if bench.args.only.is_empty() {
            bench.args.large || !workload.is_large()
        } else {
            bench.args.only.iter().any(|name| name == workload.name)
        };
        if asked {
            let measured = workloads::measure(&bench, workload).await?;
            bench.print(&measured.report(&bench.args));
        }
    }
    Ok(())
}

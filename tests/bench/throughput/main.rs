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
mod access;
mod args;
mod bench;
mod broker;
mod crew;
mod events;
mod idle;
mod measured;
mod origin;
mod pipe;
mod procs;
mod run;
mod scenarios;
mod servers;
mod soak;
mod stores;
mod table;
mod tail;
mod targets;
mod wait;
mod worker;
mod workloads;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Args, Who},
    bench::Bench,
    scenarios::Scenario,
    targets::Figures,
    workloads::WORKLOADS,
};

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
        list(&args);
        return Ok(());
    }
    for name in &args.only {
        let known = WORKLOADS.iter().any(|workload| workload.name == name)
            || Scenario::ALL.iter().any(|scenario| scenario.name() == name);
        ensure!(
            known,
            "--only: there is no {name:?}; --list says what there is"
        );
    }
    let bench = Bench::start(args).await?;
    let args = &bench.args;
    let asked = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    if let Some(time) = args.soak {
        let who = args.callvaults().first().copied().unwrap_or(Who::Callvault);
        return soak::soak(&bench, time, who).await;
    }
    let mut figures = Figures::default();
    let workloads: Vec<_> = WORKLOADS
        .iter()
        .filter(|workload| asked(workload.name))
        .filter(|workload| !workload.is_large() || args.large || !args.only.is_empty())
        .collect();
    if !workloads.is_empty() {
        let idles = idle::measure(&bench).await?;
        for workload in workloads {
            let measured = workloads::measure(&bench, workload, &idles).await?;
            bench.print(&measured.report(args));
            figures.extend(measured.figures(args));
        }
    }
    for scenario in Scenario::ALL {
        if asked(scenario.name()) && !args.callvaults().is_empty() {
            figures.extend(scenario.measure(&bench).await?);
        }
    }
    if args.quick {
        bench.print("\nThis was a tenth of the work: no figure here means anything.");
    }
    if let Some(targets) = targets::report(args, &figures) {
        bench.print(&targets);
    }
    Ok(())
}

fn list(args: &Args) {
    for workload in &WORKLOADS {
        let when = if workload.is_large() {
            " (with --large)"
        } else {
            ""
        };
        println!("{:12}{}{when}", workload.name, workload.about(args));
    }
    for scenario in Scenario::ALL {
        println!("{:12}{}", scenario.name(), scenario.about());
    }
}

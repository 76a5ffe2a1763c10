//! `callvault`: arguments → logging → one command → exit code.

use std::{process::ExitCode, time::Duration};

use callvault::{cli::Cli, telemetry};
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init(cli.log_format(), cli.log_level());
    // One TLS provider for downloads, stores and broker alike; fails only where one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::from(3);
        }
    };
    let exit = runtime.block_on(cli.execute());
    // A connection attempt that was given up keeps its thread until the peer answers; it is not waited
    // for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    exit.into()
}

//! `callvault`: arguments → logging → one command → exit code.

use std::{process::ExitCode, thread, time::Duration};

use callvault::{cli::Cli, stacks, telemetry};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn main() -> ExitCode {
    // Before anything else: the size is read once, by the first thread, and nothing is open yet.
    let small = stacks::enlarge().err();
    let cli = Cli::parse();
    more_files();
    telemetry::init(cli.log_format(), cli.log_level());
    if let Some(error) = small {
        tracing::warn!(
            %error,
            "cannot start anew with large stacks; set RUST_MIN_STACK, or a message with deeply nested headers ends this"
        );
    }
    // One TLS provider for downloads, stores and broker alike; fails only where one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();

    // The first thread's stack is as large as the system's limit says.
    let thread = thread::Builder::new().stack_size(stacks::RUNTIME);
    match thread.spawn(|| run(cli)).map(thread::JoinHandle::join) {
        Ok(Ok(exit)) => exit,
        // It panicked, and has said so; a panic of this thread would end with that.
        Ok(Err(_)) => ExitCode::from(101),
        Err(error) => cannot_start(&error),
    }
}

fn run(cli: Cli) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(stacks::RUNTIME)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(&error),
    };
    let exit = runtime.block_on(cli.execute());
    // A connection attempt that was given up keeps its thread until the peer answers; it is not waited
    // for.
    runtime.shutdown_timeout(Duration::from_millis(500));
    exit.into()
}

/// Takes as many open files as may be had. The usual 1024 is for programs that call `select`, which can count no
/// further; a busy worker needs more. Where even that is refused, it stays at what there is.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let _ = setrlimit(Resource::Nofile, most);
}

fn cannot_start(error: &std::io::Error) -> ExitCode {
    tracing::error!(%error, "cannot start the runtime");
    ExitCode::from(3)
}

//! Room for what recurses as deep as a message's headers nest.
//!
//! Headers come from whoever may publish, and a frame of 128 KiB holds 26,000 arrays in one another. The
//! AMQP client reads and writes them by recursion, on a thread that it starts itself, and what it read is
//! cloned, moved and dropped by recursion, too, on threads of the runtime: where the stack ends, so does
//! the process, and again after each restart. The client's thread has the standard library's default size,
//! which only `RUST_MIN_STACK` can set. Stacks are address space: memory is what was touched.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// An unoptimized build takes several times as much.
const BUILD: usize = if cfg!(debug_assertions) { 6 } else { 1 };

/// For the AMQP client's thread, in bytes. To read what a frame can hold takes 30 to 50 MiB of it, as measured, and
/// four to six times that unoptimized.
pub const CLIENT: usize = BUILD * (128 << 20);

/// For the runtime's threads, in bytes. To clone takes 4 to 8 MiB, to write 8 to 16.
pub const RUNTIME: usize = BUILD * (32 << 20);

/// What sets the size of that.
pub const VARIABLE: &str = "RUST_MIN_STACK";

/// Starts this program anew, in this process and with these arguments, with large stacks; returns where
/// the variable is set, by that or by the user, or if that fails.
pub fn enlarge() -> io::Result<()> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    Err(again
        .args(arguments)
        .env(VARIABLE, CLIENT.to_string())
        .exec())
}

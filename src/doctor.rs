//! The doctor: what is not as it should be, what follows from it, and how to mend it.
//!
//! [`configuration`] and [`machine`] look at what is at hand, and `run` logs what they find as it starts; [`broker`],
//! [`buckets`] and [`origins`] try what can be tried without leaving a trace. How each thing is tried stands where
//! it is spoken to, in [`crate::queue::examine`] and [`crate::store`]; here is what it means.

pub mod broker;
pub mod buckets;
pub mod configuration;
pub mod machine;
pub mod origins;

use serde::Serialize;

/// What is about the configuration alone: it may be weak as its owner wants it.
const CONFIGURATION: &str = "configuration";

/// How something does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// callvault works, and something is less than it could be.
    Weak,
    /// callvault does not work like this.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in one word.
    pub what: &'static str,
    /// Whether it changes no exit code.
    ok: bool,
    /// How it does.
    pub state: State,
    /// What was found, in an operator's words.
    pub detail: String,
    /// How to mend it; empty where there is nothing to be mended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// Whether what fails is something that has to be reached.
    #[serde(skip)]
    pub unreachable: bool,
}

impl Finding {
    /// Something as it should be.
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, State::Ok, detail, "")
    }

    /// Something that could be better.
    pub fn weak(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(what, State::Weak, detail, mend)
    }

    /// Something that callvault cannot do with.
    pub fn fail(what: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(what, State::Fail, detail, mend)
    }

    /// Something needed that cannot be reached or used at all.
    pub fn unreachable(
        what: &'static str,
        detail: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            unreachable: true,
            ..Self::fail(what, detail, mend)
        }
    }

    fn new(
        what: &'static str,
        state: State,
        detail: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            what,
            ok: state == State::Ok || (state == State::Weak && what == CONFIGURATION),
            state,
            detail: detail.into(),
            mend: mend.into(),
            unreachable: false,
        }
    }

    /// Says it in the log, unless all is well.
    pub fn log(&self) {
        let Self {
            what, detail, mend, ..
        } = self;
        match self.state {
            State::Ok => {}
            State::Weak => tracing::warn!(about = what, detail, mend, "this could be better"),
            State::Fail => tracing::error!(about = what, detail, mend, "this will not work"),
        }
    }
}

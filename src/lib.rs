//! callvault archives the attachments of AI phone calls.
//!
//! A provider posts a `call.analyzed` webhook that names a call's analysis, recording and transcript;
//! an ingress puts it on RabbitMQ; callvault takes it from there to object storage. One event's way:
//!
//! ```text
//! queue::consumer      a delivery comes, one task each
//!   pipeline::archive  the story of one event
//!     event            bytes -> CallAnalyzed, or invalid
//!     attachment       kind, key and buckets of each attachment, from the event alone
//!     fetch            URL -> Body, under guard and within limits
//!     check            Body -> Facts, or Problem
//!     store            Body -> object, in its bucket or in the quarantine
//!     manifest         last: the commit mark
//!   settle             outcome -> acknowledge, retry later, or dead letter
//! ```
//!
//! Around it: [`status`], [`flights`], [`metrics`] and [`traces`] know what goes on, [`http`] and [`page`] tell it;
//! [`doctor`] finds out beforehand what would not; [`audit`] and [`seal`] look at the archive years later.
//!
//! Nothing is lost: a message is acknowledged only once its manifest is durable, or the message itself
//! is safe in another queue. Nothing false is archived: a body is complete, hashed and checked before its
//! first byte is stored.

pub mod cli;
pub mod config;

pub mod queue;

pub mod pipeline;

pub mod event;
pub mod scan;

pub mod attachment;

pub mod fetch;

pub mod body;
pub mod digest;

pub mod check;

pub mod metadata;
pub mod outage;
pub mod store;

pub mod roots;

pub mod manifest;

pub mod audit;
pub mod seal;

pub mod settle;

pub mod doctor;

pub mod flights;
pub mod http;
pub mod metrics;
pub mod page;
pub mod stacks;
pub mod status;
pub mod telemetry;
pub mod traces;

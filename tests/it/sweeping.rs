//! `callvault sweep`.

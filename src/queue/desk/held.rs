//! A message in the desk's hands.

use lapin::{Acker, BasicProperties, message::Delivery};
use serde_json::{Map, Value};

use super::{Letter, describe};
use crate::queue::message;

/// A dead message, held.
#[derive(Debug)]
pub struct Message {
    properties: BasicProperties,
    body: Vec<u8>,
    hold: Hold,
}

/// The hold on a message, without its content.
#[derive(Debug)]
pub struct Hold(pub(super) Acker);

impl Message {
    /// Its body, as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Its properties, but for the headers.
    pub fn properties(&self) -> Map<String, Value> {
        describe::properties(&self.properties)
    }

    /// Its headers.
    pub fn headers(&self) -> Value {
        describe::headers(&self.properties)
    }

    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        self.body.capacity() + describe::weight(&self.properties)
    }

    pub(super) fn letter(&self) -> Letter {
        Letter::of(&self.properties, &self.body)
    }

    pub(super) fn to_be_replayed(&self) -> BasicProperties {
        message::replayed(&self.properties)
    }

    pub(super) fn is_held(&self) -> bool {
        self.hold.0.usable()
    }

    pub(super) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Forgets the content.
    pub fn into_hold(self) -> Hold {
        self.hold
    }
}

impl From<Delivery> for Message {
    fn from(mut delivery: Delivery) -> Self {
        // It grew frame by frame.
        delivery.data.shrink_to_fit();
        Self {
            properties: delivery.properties,
            body: delivery.data,
            hold: Hold(delivery.acker),
        }
    }
}

//! A monitor of any kind. PURE.
//!
//! Input: one object as JSON. Output: an [`AnyMonitor`], which is shared and not copied.

use std::sync::Arc;

use serde_json::Value;

use super::object::{Head, Kind, Monitor, MonitorKey, ReadError};
use super::podmonitor::PodMonitor;
use super::servicemonitor::ServiceMonitor;

/// A monitor, valid or not.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyMonitor {
    /// By labels of pods.
    Pod(Arc<PodMonitor>),
    /// By labels of Services.
    Service(Arc<ServiceMonitor>),
}

impl AnyMonitor {
    /// Reads one object of a kind; whatever is wrong with its spec waits for its judgement.
    pub fn read(kind: Kind, object: &Value) -> Result<Self, ReadError> {
        match kind {
            Kind::Pod => Monitor::read(object).map(|monitor: PodMonitor| monitor.into()),
            Kind::Service => Monitor::read(object).map(|monitor: ServiceMonitor| monitor.into()),
        }
    }

    /// What all kinds have in common.
    pub fn head(&self) -> Head<'_> {
        match self {
            Self::Pod(monitor) => monitor.head(),
            Self::Service(monitor) => monitor.head(),
        }
    }

    /// Kind, namespace and name.
    pub fn key(&self) -> MonitorKey {
        let Head { kind, id, .. } = self.head();
        MonitorKey { kind, id: id.clone() }
    }

    /// Whether both are the same but for what others say of them.
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pod(one), Self::Pod(other)) => one.is_same_as(other),
            (Self::Service(one), Self::Service(other)) => one.is_same_as(other),
            (Self::Pod(_), Self::Service(_)) | (Self::Service(_), Self::Pod(_)) => false,
        }
    }
}

impl From<PodMonitor> for AnyMonitor {
    fn from(monitor: PodMonitor) -> Self {
        Self::Pod(Arc::new(monitor))
    }
}

impl From<ServiceMonitor> for AnyMonitor {
    fn from(monitor: ServiceMonitor) -> Self {
        Self::Service(Arc::new(monitor))
    }
}

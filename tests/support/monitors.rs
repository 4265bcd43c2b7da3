//! `PodMonitor`s beside what prometheus-operator makes of them: cases, and the comparison of both configurations.

pub(crate) mod cases;
pub(crate) mod classes;
pub(crate) mod compare;
pub(crate) mod difference;
pub(crate) mod generate;
pub(crate) mod objects;
pub(crate) mod pods;
pub(crate) mod series;
pub(crate) mod services;
pub(crate) mod services_compare;

//! Templates beside what prometheus-operator makes of them: cases, and the comparison of both agents.

pub(crate) mod cases;
pub(crate) mod compare;
pub(crate) mod generate;
pub(crate) mod rules;
pub(crate) mod wrong;

//! What a pod and its namespace ask for. PURE.
//!
//! Input: the `inject` and `required` values of the pod and of its namespace. Output: who asked for which template, or the
//! value that cannot be read.

use super::catalog::NamespaceMeta;
use super::hints::InvalidValue;
use super::pod::PodView;
use crate::names;

/// Grammar of `inject`, for messages.
pub const INJECT_GRAMMAR: &str = "want true, false, NAME or NAMESPACE/NAME";
const LABEL_GRAMMAR: &str = "want true, false or a template's NAME";
const TEMPLATE_GRAMMAR: &str = "want NAME or NAMESPACE/NAME";
const BOOLEAN_GRAMMAR: &str = "want true or false";

/// A reference to a template, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Absent: the pod's own namespace.
    pub namespace: Option<&'a str>,
    /// Name of the template.
    pub name: &'a str,
}

/// A value of `inject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inject<'a> {
    True,
    False,
    Template(Reference<'a>),
}

/// Where an answer was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The pod's annotation.
    PodAnnotation,
    /// The namespace's label.
    NamespaceLabel,
    /// The namespace's annotation `template`.
    NamespaceAnnotation,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Nobody asked.
    Nothing,
    /// Declined.
    Declined(Source),
    /// This template.
    Template(Reference<'a>, Source),
    /// Whichever template applies.
    Any(Source),
    /// A value that cannot be read asked.
    Unreadable(InvalidValue<'a>),
}

/// A boolean of ours: case-insensitive, nothing else is guessed.
pub fn parse_bool(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// `name` or `namespace/name`, each as Kubernetes names objects (RFC 1123).
pub fn parse_reference(value: &str) -> Option<Reference<'_>> {
    match value.split_once('/') {
        Some((namespace, name)) => (is_dns_label(namespace) && is_dns_subdomain(name))
            .then_some(Reference { namespace: Some(namespace), name }),
        None => is_dns_subdomain(value).then_some(Reference { namespace: None, name: value }),
    }
}

/// RFC 1123 label: names of namespaces.
pub fn is_dns_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let edges = [bytes.first(), bytes.last()];
    bytes.len() <= 63
        && bytes.iter().all(inner)
        && edges.iter().all(|edge| edge.is_some_and(|byte| *byte != b'-'))
}

/// RFC 1123 subdomain: names of templates.
pub fn is_dns_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
        bytes.iter().all(inner)
            && [bytes.first(), bytes.last()].iter().all(|edge| edge.is_some_and(|byte| *byte != b'-'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl<'a> Inject<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        match parse_bool(value) {
            Some(true) => Some(Self::True),
            Some(false) => Some(Self::False),
            None => parse_reference(value).map(Self::Template),
        }
    }
}

impl<'a> Wanted<'a> {
    /// Pod annotation, then namespace, then nothing.
    pub fn of(pod: &'a PodView<'a>, namespace: &'a NamespaceMeta) -> Self {
        let Some(value) = pod.annotation(names::INJECT) else { return Self::of_namespace(namespace) };
        match Inject::parse(value) {
            Some(Inject::False) => Self::Declined(Source::PodAnnotation),
            Some(Inject::Template(reference)) => Self::Template(reference, Source::PodAnnotation),
            Some(Inject::True) => match Self::named_by_namespace(namespace) {
                Some(named) => named,
                None => Self::Any(Source::PodAnnotation),
            },
            None => Self::Unreadable(InvalidValue::on_pod(names::INJECT, value, INJECT_GRAMMAR)),
        }
    }

    fn of_namespace(namespace: &'a NamespaceMeta) -> Self {
        let Some(value) = namespace.inject.as_deref() else { return Self::Nothing };
        match Inject::parse(value) {
            Some(Inject::False) => Self::Declined(Source::NamespaceLabel),
            Some(_) => Self::named_by_namespace(namespace).unwrap_or(Self::Any(Source::NamespaceLabel)),
            None => Self::bad_label(value),
        }
    }

    /// The template that the namespace names: by its label, else by its annotation.
    fn named_by_namespace(namespace: &'a NamespaceMeta) -> Option<Self> {
        match namespace.inject.as_deref().map(|value| (value, Inject::parse(value))) {
            Some((_, Some(Inject::Template(reference)))) => {
                return Some(Self::Template(reference, Source::NamespaceLabel));
            }
            Some((value, None)) => return Some(Self::bad_label(value)),
            _ => {}
        }
        let value = namespace.template.as_deref()?;
        Some(match parse_reference(value) {
            Some(reference) => Self::Template(reference, Source::NamespaceAnnotation),
            None => Self::Unreadable(InvalidValue {
                key: names::TEMPLATE,
                on_namespace: true,
                value,
                grammar: TEMPLATE_GRAMMAR,
            }),
        })
    }

    const fn bad_label(value: &'a str) -> Self {
        Self::Unreadable(InvalidValue {
            key: names::INJECT,
            on_namespace: true,
            value,
            grammar: LABEL_GRAMMAR,
        })
    }
}

/// Whether a refusal must deny the pod: the namespace's label or the pod's annotation says so; a pod cannot weaken its
/// namespace. A value that cannot be read requires nothing by itself; the second part of the answer names it.
pub fn required<'a>(pod: &'a PodView<'a>, namespace: &'a NamespaceMeta) -> (bool, Option<InvalidValue<'a>>) {
    let on_pod = pod.annotation(names::REQUIRED);
    let on_namespace = namespace.required.as_deref();
    let truthy = |value: Option<&str>| value.and_then(parse_bool) == Some(true);
    let invalid = |value: Option<&'a str>, on_namespace| {
        let value = value.filter(|value| parse_bool(value).is_none())?;
        Some(InvalidValue { key: names::REQUIRED, on_namespace, value, grammar: BOOLEAN_GRAMMAR })
    };
    (truthy(on_pod) || truthy(on_namespace), invalid(on_pod, false).or_else(|| invalid(on_namespace, true)))
}

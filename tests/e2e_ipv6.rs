//! A pod of an IPv6 cluster, on a real node: its application listens at the loopback of IPv6 alone, and its series carry the
//! pod's IPv6 address.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a failed step fails the test")]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "support/node.rs"]
mod node;
mod support;

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr, TcpStream};

use control_plane::https::{PATIENCE, until};
use control_plane::injector::pods;
use node::receiver::{Labels, Receiver};
use node::settings::Family;
use node::workloads::{bare, namespace, pod, template};
use node::{Node, webhook};
use promsidecar::names;

/// What the application exposes, and what a scrape adds to it.
const SERIES: [&str; 6] = [
    "app_scrapes_total",
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

#[tokio::test]
async fn series_of_an_application_at_the_loopback_of_ipv6_arrive_under_the_ipv6_address_of_its_pod() {
    let objects = [namespace("six", ""), template("six/shop", &Receiver::remote(), "", "")].concat();
    let node = Node::start(Family::V6First).await;
    webhook::install(&node, &objects).await;
    node.configure(&["six/shop"]).await;

    let mut template = pod("web", "shop", &["-listen=[::1]:8080"]);
    // The kubelet probes the pod's own address, where nobody listens.
    template["spec"]["containers"][0].as_object_mut().unwrap().remove("readinessProbe");
    let watch = node.watch("six", "web");
    node.plane.api.create(&pods("six"), &bare("six", &template)).await;
    let running = watch.ready().await.pod;
    let addresses = running["status"]["podIPs"].as_array().unwrap().iter();
    let addresses: Vec<&str> = addresses.map(|address| address["ip"].as_str().unwrap()).collect();
    let [six, four] = addresses[..] else { panic!("the pod has two addresses: {addresses:?}") };
    assert_eq!(running["status"]["podIP"], six);
    assert!(six.parse::<Ipv6Addr>().is_ok(), "{six}");

    let expected: BTreeSet<Labels> = SERIES
        .map(|name| {
            [
                ("__name__", name),
                ("cluster", "c1"),
                ("container", "app"),
                ("instance", &format!("[{six}]:8080")),
                ("job", names::JOB_ANNOTATIONS),
                ("namespace", "six"),
                ("pod", "web"),
                ("prometheus", "six/shop"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
        })
        .into();
    node.receiver.arrived("up{pod=\"web\"} == 1").await;
    until("all series have arrived", || async {
        node.receiver.query("{pod=\"web\"}").await.len() >= expected.len()
    })
    .await;
    let arrived = node.receiver.query("{pod=\"web\"}").await;
    assert_eq!(arrived.into_iter().map(|(labels, _)| labels).collect::<BTreeSet<_>>(), expected);
    // So it was the loopback of IPv6 that the agent found it at.
    for address in [six, four] {
        let address = SocketAddr::new(address.parse().unwrap(), 8080);
        let refused = TcpStream::connect_timeout(&address, PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
    watch.assert_undisturbed();
}

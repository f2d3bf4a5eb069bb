//! Memory that 10,000 endpoints take in an agent: the views of the node's watches, the index for
//! forwarding, and the index for DNS.
#![allow(clippy::print_stdout, reason = "the benchmark's answer")]

use std::error::Error;
use std::fs;
use std::sync::Arc;

use api::view::{EndpointSliceView, ServiceView};
use plan::dns_records::{Records, Service, Slice};
use plan::services::Services;
use serde_json::json;

const ENDPOINTS: usize = 10_000;
/// Number of nodes.
const NODES: usize = 1_000;
/// Endpoints in a slice, as the controller fills them.
const SLICE: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    println!("bytes an endpoint, of {ENDPOINTS}");
    // The second round would reuse memory that the first one freed, which would not be counted.
    let many = measure(1_000)?;
    let one = measure(1)?;
    drop((many, one));
    Ok(())
}

/// Distributes the endpoints equally over this many Services.
fn measure(services: usize) -> Result<(Vec<Views>, Services, Records), Box<dyn Error>> {
    let start = resident()?;
    let mut views = Vec::new();
    for number in 0..services {
        views.push(Views::new(number, ENDPOINTS / services)?);
    }
    let kept = resident()?;

    let mut index = Services::new("node-0");
    for view in &views {
        let key = |name: &str| (Arc::from("default"), Arc::from(name));
        index.set_service(key(&view.name), Some(Arc::clone(&view.service)));
        for (number, slice) in view.slices.iter().enumerate() {
            index.set_slice(key(&format!("{}-{number}", view.name)), Some(Arc::clone(slice)));
        }
    }
    drop(index.changes());
    let led = resident()?;

    let mut records = Records::new("cluster.local", &[]);
    for view in &views {
        records.set_service("default", &view.name, Some(Service::from(&*view.service)));
        for (number, slice) in view.slices.iter().enumerate() {
            records.set_slice("default", &format!("{}-{number}", view.name), Slice::of(slice));
        }
    }
    let named = resident()?;
    let each = |from: usize, to: usize| to.saturating_sub(from) / ENDPOINTS;
    println!(
        "{services} Services: views {}, connections {}, names {}, all {}",
        each(start, kept),
        each(kept, led),
        each(led, named),
        each(start, named)
    );
    Ok((views, index, records))
}

struct Views {
    name: String,
    service: Arc<ServiceView>,
    slices: Vec<Arc<EndpointSliceView>>,
}

impl Views {
    fn new(number: usize, endpoints: usize) -> Result<Views, serde_json::Error> {
        let name = format!("service-{number}");
        let meta = |name: &str| json!({"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}});
        let service = json!({
            "metadata": meta(&name),
            "spec": {
                "type": "ClusterIP",
                "clusterIP": format!("10.96.{}.{}", number / 250, number % 250 + 1),
                "clusterIPs": [format!("10.96.{}.{}", number / 250, number % 250 + 1)],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            },
        });
        let first = number * endpoints;
        let all: Vec<usize> = (first..first + endpoints).collect();
        let slices = all.chunks(SLICE).map(|numbers| {
            let endpoints: Vec<_> = numbers
                .iter()
                .map(|number| {
                    json!({
                        "addresses": [format!("10.{}.{}.{}", 128 + number / 62_500, number / 250 % 250, number % 250 + 1)],
                        "conditions": {"ready": true, "serving": true, "terminating": false},
                        "nodeName": format!("node-{}", number % NODES),
                        "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("daemon-{number:05}"),
                            "uid": format!("8c9d8f6e-0d1c-4c1e-9e37-{number:012}")},
                    })
                })
                .collect();
            let slice = json!({
                "metadata": meta(&name), "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
            });
            serde_json::from_value(slice).map(Arc::new)
        });
        Ok(Views {
            service: Arc::new(serde_json::from_value(service)?),
            slices: slices.collect::<Result<_, _>>()?,
            name,
        })
    }
}

/// Anonymous resident memory of this process, in bytes.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("RssAnon")?;
    Ok(kib.parse::<usize>()? << 10)
}

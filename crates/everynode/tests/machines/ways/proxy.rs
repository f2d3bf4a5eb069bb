//! Daemons by their paths in the API: the server's proxy, through the agents' own dialling, into real containers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testkit::{Api, Client, Fleet, Pod, programs};

use super::{clients, daemon};
use crate::fleet;

/// Busybox, and a program that speaks TLS.
const DESK: &str = "everynode.local/desk:1";
/// Serves over HTTP on 8080, over TLS on 8443, and echoes on 8081 what comes after a change of protocol. `/cgi-bin/halves` gives its
/// second half once somebody has asked for `/cgi-bin/go`.
const SERVE: &str = r#"
set -e
mkdir -p /srv/cgi-bin; cd /srv
echo $HOSTNAME | tee index.html > name
yes $HOSTNAME | head -c 33554432 > big
head='#!/bin/sh\necho "Content-Type: application/json"; echo\n'
printf "$head"'wc -c\n' > cgi-bin/count
printf "$head"'echo "{\\"half\\":1}"; until [ -e /tmp/go ]; do sleep 0.1; done; echo "{\\"half\\":2}"\n' > cgi-bin/halves
printf "$head"'touch /tmp/go; echo true\n' > cgi-bin/go
chmod +x cgi-bin/*
cat > /tmp/echo.sh <<'END'
while read line; do [ "$line" = "$(printf '\r')" ] && break; done
printf 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'
exec cat
END
httpd -p 8080 -h /srv
nc -ll -p 8081 -e sh /tmp/echo.sh &
printf '[req]\ndistinguished_name=dn\n[dn]\n' > /tmp/openssl.cnf
openssl req -config /tmp/openssl.cnf -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=desk \
    -addext basicConstraints=CA:FALSE -keyout /tmp/key.pem -out /tmp/cert.pem
exec openssl s_server -accept 8443 -WWW -key /tmp/key.pem -cert /tmp/cert.pem
"#;
const LISTENS: &str = "test $(netstat -ltn | grep -c -E ':(8080|8081|8443) ') = 3";
/// A body that no server keeps whole on its way: `big` above, and what is sent.
const BIG: usize = 32 << 20;
const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";

/// Three nodes with the daemon, and its pods by node.
fn desks() -> Result<Option<(Fleet, BTreeMap<String, Pod>)>> {
    let Some(mut fleet) = fleet(3, &[])? else {
        return Ok(None);
    };
    let openssl = Path::new("/usr/bin/openssl");
    let image = programs(fleet.topology().folder(), DESK, &[openssl], &["sh"])?;
    fleet.import(&image)?;
    fleet.apply(&daemon("desk", DESK, &["sh", "-c", SERVE], |spec| {
        let main = &mut spec["containers"][0];
        main["ports"] = json!([
            {"name": "http", "containerPort": 8080, "hostPort": 8080}, {"name": "tls", "containerPort": 8443},
        ]);
        main["readinessProbe"] = json!({"exec": {"command": ["sh", "-c", LISTENS]}, "periodSeconds": 1});
    }));
    fleet.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "desk"},
        "spec": {"selector": {"app": "desk"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http"}, {"name": "tls", "port": 443, "targetPort": "tls"},
        ]},
    }));
    let pods = fleet.running("desk", 3)?;
    Ok(Some((fleet, pods)))
}

#[test]
fn every_path_of_the_proxy_leads_into_the_container_that_it_names() -> Result<()> {
    let Some((fleet, pods)) = desks()? else {
        return Ok(());
    };
    let clients = clients(&fleet);
    for client in &clients {
        let says = |path: &str| client.ok(&["get", "--raw", path]).trim().to_owned();
        for (node, Pod { name, .. }) in &pods {
            for path in [
                format!("{PODS}/{name}/proxy/"),
                format!("{PODS}/{name}:8080/proxy/"),
                format!("{PODS}/http:{name}:http/proxy/name"),
                format!("{PODS}/https:{name}:8443/proxy/name"),
                format!("{SETS}/desk/nodes/{node}/proxy/"),
                format!("{SETS}/desk:8080/nodes/{node}/proxy/name"),
                format!("{SETS}/https:desk:tls/nodes/{node}/proxy/name"),
                // The node's own port, which is the daemon's.
                format!("/api/v1/nodes/{node}:8080/proxy/"),
            ] {
                assert_eq!(says(&path), *name, "{path}");
            }
            assert_eq!(says(&format!("/api/v1/nodes/{node}/proxy/healthz")), "ok");
            let listed: Value = serde_json::from_str(&says(&format!("/api/v1/nodes/{node}/proxy/pods")))?;
            let items = listed["items"].as_array().context("the node's pods")?;
            assert!(
                items.iter().any(|pod| pod["metadata"]["name"] == **name),
                "{listed}"
            );
        }
        let names: BTreeSet<&str> = pods.values().map(|pod| &*pod.name).collect();
        for path in ["desk:http", "desk:80", "https:desk:tls", "https:desk:443"] {
            let said = says(&format!("{SERVICES}/{path}/proxy/name"));
            assert!(names.contains(&*said), "{path}: {said}");
        }
    }
    nobody_listens(&fleet, &clients, &pods["node-2"])
}

/// A port that nobody listens on is 503 in Kubernetes' words.
fn nobody_listens(fleet: &Fleet, clients: &[Client], pod: &Pod) -> Result<()> {
    let path = format!("{PODS}/{}:1/proxy/", pod.name);
    let why = format!(
        "error trying to reach service: dial tcp {}:1: connect: connection refused",
        pod.address
    );
    let answer = Api::connect(&fleet.kubeconfig())?.send(Method::GET, &path, testkit::JSON, Vec::new())?;
    assert_eq!(
        (answer.code, &answer.body["reason"], &answer.body["message"]),
        (503, &json!("ServiceUnavailable"), &json!(why))
    );
    for client in clients {
        let said = client.run(&["get", "--raw", &path]);
        assert!(!said.success && said.stderr.contains(&why), "{}", said.stderr);
    }
    Ok(())
}

#[test]
fn bodies_of_any_size_and_other_protocols_stream_through_the_proxy() -> Result<()> {
    let Some((fleet, pods)) = desks()? else {
        return Ok(());
    };
    let pod = &pods["node-3"].name;
    let at = |path: &str| format!("{PODS}/{pod}:8080/proxy/{path}");
    let big = fleet.client().ok(&["get", "--raw", &at("big")]);
    let line = format!("{pod}\n");
    assert_eq!(big.len(), BIG);
    assert!(
        big.as_bytes()
            .chunks(line.len())
            .all(|chunk| line.as_bytes().starts_with(chunk))
    );

    let api = Api::connect(&fleet.kubeconfig())?;
    let counted = api.send(Method::POST, &at("cgi-bin/count"), "text/plain", vec![b'x'; BIG])?;
    assert_eq!((counted.code, counted.body), (200, json!(BIG)));

    // The first half is there while nobody has yet asked for the second.
    let mut halves = api.watch(&at("cgi-bin/halves"))?;
    assert_eq!(halves.event()?, json!({"half": 1}));
    assert_eq!(
        Api::connect(&fleet.kubeconfig())?.get(&at("cgi-bin/go"))?,
        json!(true)
    );
    assert_eq!(halves.event()?, json!({"half": 2}));

    let set = format!("{SETS}/desk:8081/nodes/node-3/proxy/");
    for path in [format!("{PODS}/{pod}:8081/proxy/"), set] {
        let mut stream = Upgraded::open(&fleet, &path)?;
        for word in ["hello", "again"] {
            assert_eq!(stream.echo(word)?, word, "{path}");
        }
    }
    Ok(())
}

/// A connection as the administrator whose protocol was changed, by a client that knows nothing of Kubernetes.
struct Upgraded {
    client: Child,
    from: BufReader<ChildStdout>,
}

impl Upgraded {
    fn open(fleet: &Fleet, path: &str) -> Result<Self> {
        let server = format!("{}:6443", fleet.nodes()[0].machine.address());
        let (certificate, key) = credential(fleet)?;
        let mut client = Command::new("timeout")
            .args([
                "60", "openssl", "s_client", "-quiet", "-connect", &server, "-cert",
            ])
            .arg(&certificate)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start openssl")?;
        let from = BufReader::new(client.stdout.take().context("openssl's output")?);
        let mut stream = Upgraded { client, from };
        stream.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        ))?;
        let first = stream.line()?;
        if !first.starts_with("HTTP/1.1 101 ") {
            bail!("{path}: {first}");
        }
        while !stream.line()?.is_empty() {}
        Ok(stream)
    }

    fn send(&mut self, text: &str) -> Result<()> {
        let to = self.client.stdin.as_mut().context("openssl's input")?;
        to.write_all(text.as_bytes()).context("send")?;
        to.flush().context("send")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.from.read_line(&mut line).context("receive")? {
            0 => bail!("the stream ended"),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn echo(&mut self, word: &str) -> Result<String> {
        self.send(&format!("{word}\n"))?;
        self.line()
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        // `timeout` passes the signal on.
        let timeout = Pid::from_raw(self.client.id().cast_signed());
        kill(timeout, Signal::SIGTERM).unwrap_or_default();
        self.client.wait().map(drop).unwrap_or_default();
    }
}

/// The administrator's certificate and key, as files.
fn credential(fleet: &Fleet) -> Result<(PathBuf, PathBuf)> {
    let kubeconfig = std::fs::read_to_string(fleet.kubeconfig()).context("read the kubeconfig")?;
    let file = |field: &str, name: &str| {
        let mut words = kubeconfig.split_whitespace();
        let data = words
            .find(|word| *word == field)
            .and_then(|_| words.next())
            .with_context(|| format!("{field} in the kubeconfig"))?;
        let path = fleet.topology().folder().join(name);
        std::fs::write(&path, STANDARD.decode(data)?).context("write a credential")?;
        anyhow::Ok(path)
    };
    Ok((
        file("client-certificate-data:", "admin.crt")?,
        file("client-key-data:", "admin.key")?,
    ))
}

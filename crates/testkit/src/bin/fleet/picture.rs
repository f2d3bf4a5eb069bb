//! Prints a cluster as a table and as boxes.

use crate::scene::{Node, Pod, Scene, State};

/// Characters inside the border of a node's box: a pod's name and its address.
const INSIDE: usize = 34;
/// Width of a box with its border and the gap to the next.
const STEP: usize = INSIDE + 4;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Returns the table of daemons by node, and below it the nodes with their pods, at most `width`
/// characters wide if one node fits. With `colour`, states are colored; they have a symbol in any
/// case.
pub(crate) fn draw(scene: &Scene, width: usize, colour: bool) -> String {
    let pen = Pen { colour };
    let mut text = table(scene, pen);
    let in_row = (width / STEP).max(1);
    for row in scene.nodes.chunks(in_row) {
        text.push('\n');
        text.push_str(&boxes(row, pen));
    }
    text
}

#[derive(Clone, Copy)]
struct Pen {
    colour: bool,
}

impl Pen {
    fn paint(self, colour: &str, text: &str) -> String {
        match self.colour {
            true => format!("{colour}{text}{PLAIN}"),
            false => text.to_owned(),
        }
    }

    fn sign(self, state: State) -> String {
        match state {
            State::Ready => self.paint(GREEN, "●"),
            State::Starting => self.paint(YELLOW, "○"),
            State::Ending => self.paint(RED, "×"),
        }
    }
}

/// Returns the table of daemons by node.
fn table(scene: &Scene, pen: Pen) -> String {
    let names = scene.daemons.iter().map(|daemon| daemon.name.chars().count());
    let first = names.max().unwrap_or(0).max("DAEMONSET".len());
    let column = |name: &str| name.chars().count().max(3);
    let mut head = format!("{:first$}  READY", "DAEMONSET");
    for node in &scene.nodes {
        head.push_str(&format!("  {:^1$}", node.name, column(&node.name)));
    }
    let mut text = format!("{}\n", pen.paint(BOLD, head.trim_end()));
    for daemon in &scene.daemons {
        let ready = format!("{}/{}", daemon.ready, daemon.desired);
        let mut line = format!("{:first$}  {ready:<5}", daemon.name);
        for node in &scene.nodes {
            let signs: Vec<State> = node
                .pods
                .iter()
                .filter(|pod| pod.owner == daemon.name)
                .map(|pod| pod.state)
                .collect();
            let drawn: String = match signs.is_empty() {
                true => pen.paint(DIM, "·"),
                false => signs.iter().map(|state| pen.sign(*state)).collect(),
            };
            line.push_str("  ");
            line.push_str(&centred(&drawn, signs.len().max(1), column(&node.name)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Centers text of `length` visible characters in `width`.
fn centred(text: &str, length: usize, width: usize) -> String {
    let free = width.saturating_sub(length);
    let left = free / 2;
    format!("{}{text}{}", " ".repeat(left), " ".repeat(free - left))
}

/// Returns nodes side by side.
fn boxes(nodes: &[Node], pen: Pen) -> String {
    let most = nodes.iter().map(|node| node.pods.len()).max().unwrap_or(0);
    let drawn: Vec<Vec<String>> = nodes.iter().map(|node| node_box(node, most, pen)).collect();
    let lines = drawn.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for line in 0..lines {
        let row: Vec<&str> = drawn.iter().map(|lines| lines[line].as_str()).collect();
        text.push_str(row.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn node_box(node: &Node, most_pods: usize, pen: Pen) -> Vec<String> {
    let (title, state) = match node.ready {
        true => (pen.paint(BOLD, &node.name), pen.paint(GREEN, "Ready")),
        false => (pen.paint(BOLD, &node.name), pen.paint(RED, "NotReady")),
    };
    let state_length = if node.ready {
        "Ready".len()
    } else {
        "NotReady".len()
    };
    let name_length = node.name.chars().count();
    let fill = (INSIDE + 2).saturating_sub(name_length + state_length + 6);
    let mut lines = vec![format!("╭─ {title} {} {state} ─╮", "─".repeat(fill))];
    let mut line = |text: &str, length: usize| {
        let free = " ".repeat(INSIDE.saturating_sub(length));
        lines.push(format!("│ {text}{free} │"));
    };
    let mut about = node.address.clone();
    if !node.range.is_empty() {
        about.push_str(&format!("  pods {}", node.range));
    }
    let about: String = about.chars().take(INSIDE).collect();
    line(&pen.paint(DIM, &about), about.chars().count());
    for place in 0..most_pods {
        match node.pods.get(place) {
            Some(pod) => line(&pod_line(pod, pen), INSIDE),
            None => line("", 0),
        }
    }
    lines.push(format!("╰{}╯", "─".repeat(INSIDE + 2)));
    lines
}

/// Returns a pod in [`INSIDE`] characters.
fn pod_line(pod: &Pod, pen: Pen) -> String {
    let address: String = pod.address.chars().take(15).collect();
    let room = INSIDE - 3 - address.chars().count();
    let mut name: String = pod.name.chars().take(room).collect();
    if name.len() < pod.name.len() {
        name.pop();
        name.push('…');
    }
    let free = " ".repeat(room - name.chars().count());
    format!(
        "{} {name}{free} {}",
        pen.sign(pod.state),
        pen.paint(DIM, &address)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scene() -> Scene {
        let node = |name: &str, address: &str, ready: &str| {
            json!({"metadata": {"name": name}, "spec": {"podCIDR": "10.244.0.0/24"}, "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": ready}],
            }})
        };
        let pod = |name: &str, owner: &str, node: &str, ready: &str| {
            json!({
                "metadata": {"name": name, "ownerReferences": [{"kind": "DaemonSet", "name": owner}]},
                "spec": {"nodeName": node},
                "status": {"podIP": "10.244.0.2", "conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let set =
            json!({"metadata": {"name": "page"}, "status": {"desiredNumberScheduled": 2, "numberReady": 1}});
        Scene::of(
            &json!({"items": [node("node-1", "10.77.1.11", "True"), node("node-2", "10.77.1.12", "Unknown")]}),
            &json!({"items": [
                pod("page-aaaaa", "page", "node-1", "True"),
                pod("page-with-a-name-that-is-too-long-bbbbb", "page", "node-2", "False"),
            ]}),
            &json!({"items": [set]}),
        )
    }

    #[test]
    fn a_cluster_is_drawn_as_a_table_and_boxes() {
        let expected = "\
DAEMONSET  READY  node-1  node-2
page       1/2      ●       ○

╭─ node-1 ─────────────────── Ready ─╮  ╭─ node-2 ──────────────── NotReady ─╮
│ 10.77.1.11  pods 10.244.0.0/24     │  │ 10.77.1.12  pods 10.244.0.0/24     │
│ ● page-aaaaa            10.244.0.2 │  │ ○ page-with-a-name-tha… 10.244.0.2 │
╰────────────────────────────────────╯  ╰────────────────────────────────────╯
";
        assert_eq!(draw(&scene(), 80, false), expected);
    }

    #[test]
    fn boxes_that_do_not_fit_beside_each_other_go_below() {
        let narrow = draw(&scene(), 40, false);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(draw(&scene(), 80, true).contains(GREEN));
    }
}

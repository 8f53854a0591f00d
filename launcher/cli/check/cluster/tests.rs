use super::*;

fn node(name: &str) -> Node {
    Node {
        name: name.into(),
        plugin: Some("1.0".into()),
        launcher: Some("1.0".into()),
        site_file: Some("0123".into()),
        kernel: "6.1".into(),
        user_namespaces: true,
        fuse: true,
        ..Node::default()
    }
}

fn report(nodes: Vec<Node>, asked: &[&str]) -> Report {
    compare(Answers {
        nodes,
        asked: asked.iter().map(ToString::to_string).collect(),
    })
}

#[test]
fn nodes_that_say_the_same_share_a_line() {
    let report = report(
        vec![node("n2"), node("n1"), node("n3")],
        &["n1", "n2", "n3"],
    );
    assert!(report.ok && report.same);
    let lines = lines(&report);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("nodes   plugin  launcher  site file  Linux"),
        "{lines:#?}"
    );
    assert!(
        lines[1].starts_with("n[1-3]  1.0     1.0       0123       6.1"),
        "{lines:#?}"
    );
}

#[test]
fn who_lacks_the_plugin_differs_or_says_nothing_is_named() {
    let without = Node {
        plugin: None,
        launcher: None,
        faults: vec!["Slurm has loaded no plugin".into()],
        ..node("n2")
    };
    let report = report(vec![node("n1"), without], &["n1", "n2", "n3"]);
    assert!(!report.ok && !report.same);
    let lines = lines(&report).join("\n");
    for part in [
        "n2     MISSING",
        "n3 did not answer",
        "n2: Slurm has loaded no plugin",
        "the nodes differ",
    ] {
        assert!(lines.contains(part), "{lines}");
    }
}

#[test]
fn another_site_file_is_a_failure_and_another_kernel_a_line_of_its_own() {
    let other = |change: fn(&mut Node)| {
        let mut other = node("n2");
        change(&mut other);
        report(vec![node("n1"), other], &["n1", "n2"])
    };
    assert!(!other(|node| node.site_file = None).ok);
    assert!(!other(|node| node.launcher = Some("1.1".into())).ok);
    let kernels = other(|node| node.kernel = "6.2".into());
    assert!(kernels.ok);
    assert_eq!(lines(&kernels).len(), 3);
}

#[test]
fn names_are_folded_as_slurm_writes_them() {
    for (names, folded_) in [
        (&["n1", "n2", "n3", "n5"][..], "n[1-3,5]"),
        (&["n10", "n9", "n11"], "n[9-11]"),
        (&["a01", "a02", "b03", "login"], "a[01-02],b03,login"),
        (&[], ""),
    ] {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(folded(&names), folded_);
    }
}

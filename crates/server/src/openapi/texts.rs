//! What people read about operations, and what only their handlers know: `operations.md`, read.
//!
//! A first heading is a group, a second one an operation. Below its text stands a list of answers that succeed, by status, and
//! of errors, by code and parameter or reason. What differs from the example of a type stands in backticks.

/// A group of operations, in the order in which they are shown.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) operations: Vec<Operation>,
}

pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) text: String,
    pub(super) items: Vec<Item>,
}

/// An item of a list: `- name: text` and an example.
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) example: String,
    pub(super) items: Vec<Item>,
}

/// Reads the groups.
pub(super) fn groups() -> Vec<Group> {
    let page = include_str!("operations.md").strip_prefix("# ");
    let groups = page.into_iter().flat_map(|page| page.split("\n# "));
    groups.map(group).collect()
}

fn group(section: &'static str) -> Group {
    let mut sections = section.split("\n## ");
    let (name, text) = parts(sections.next().unwrap_or_default(), "\n\n");
    // An operation with nothing but a heading is described like the one before.
    let mut last = "";
    let operations = sections.map(|section| {
        let (heading, rest) = parts(section.trim_end(), "\n\n");
        last = if rest.is_empty() { last } else { rest };
        operation(heading, last)
    });
    Group {
        name,
        text: joined(text),
        operations: operations.collect(),
    }
}

fn operation(heading: &'static str, rest: &'static str) -> Operation {
    let (id, summary) = parts(heading, ": ");
    let (text, list) = parts(rest, "\n\n- ");
    Operation {
        id,
        summary,
        text: joined(text),
        items: list.split("\n- ").map(item).collect(),
    }
}

fn item(text: &'static str) -> Item {
    let mut lines = text.split("\n  - ");
    let (name, text) = parts(lines.next().unwrap_or_default(), ": ");
    let text = joined(text);
    let quoted = text
        .strip_suffix('`')
        .and_then(|text| text.split_once(" `"));
    let (text, example) = quoted.unwrap_or((&text, ""));
    Item {
        name,
        text: text.to_owned(),
        example: example.to_owned(),
        items: lines.map(item).collect(),
    }
}

fn parts(text: &'static str, between: &str) -> (&'static str, &'static str) {
    text.split_once(between).unwrap_or((text, ""))
}

/// Puts each paragraph on one line.
fn joined(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .trim()
        .split("\n\n")
        .map(|lines| lines.replace("\n  ", " ").replace('\n', " "))
        .collect();
    paragraphs.join("\n\n")
}

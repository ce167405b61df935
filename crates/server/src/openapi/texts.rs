//! What people read about an operation, as it stands above its handler. `crate::api` describes the form.

/// What people read about an operation.
pub(super) struct Operation {
    pub(super) group: &'static str,
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

impl Operation {
    pub(super) fn read(page: &'static str) -> Self {
        let (heading, rest) = parts(page.trim_end(), "\n\n");
        let (group, summary) = parts(heading, ": ");
        let (text, list) = parts(rest, "\n\n- ");
        Self {
            group,
            summary,
            text: joined(text),
            items: list.split("\n- ").map(Item::read).collect(),
        }
    }
}

impl Item {
    fn read(text: &'static str) -> Self {
        let mut lines = text.split("\n  - ");
        let (name, text) = parts(lines.next().unwrap_or_default(), ": ");
        let text = joined(text);
        let quoted = text
            .strip_suffix('`')
            .and_then(|text| text.split_once(" `"));
        let (text, example) = quoted.unwrap_or((&text, ""));
        Self {
            name,
            text: text.to_owned(),
            example: example.to_owned(),
            items: lines.map(Self::read).collect(),
        }
    }
}

fn parts(text: &'static str, between: &str) -> (&'static str, &'static str) {
    text.split_once(between).unwrap_or((text, ""))
}

/// Puts each paragraph on one line.
fn joined(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|lines| lines.replace("\n  ", " ").replace('\n', " "))
        .collect();
    paragraphs.join("\n\n")
}

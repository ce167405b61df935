//! Reads Rust sources as text to check the boundary around the store: which items of `countersign-store` a source
//! names, and what it exposes as `pub`.

use std::fs;
use std::path::Path;

/// A file without the lines that are comments.
pub(crate) fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the file can be read");
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

pub(crate) fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Where a word stands in a text: what is before it and what is behind it.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(word)
        .map(move |(start, _)| (&text[..start], &text[start + word.len()..]))
        .filter(|(before, behind)| !before.ends_with(is_word) && !behind.starts_with(is_word))
}

/// The end of what a bracket at the beginning of `text` encloses.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (place, letter) in text.char_indices() {
        match letter {
            '{' | '(' | '[' | '<' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            // Not that of an arrow.
            '>' if !text[..place].ends_with(['-', '=']) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place;
        }
    }
    panic!("a bracket is never closed: {text}");
}

/// The parts of a list, as far as its commas stand in no bracket.
fn parts(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let end = first_outside(rest, &[',']);
        parts.push(rest[..end].trim());
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Where one of `ends` stands first outside of brackets.
fn first_outside(text: &str, ends: &[char]) -> usize {
    let mut place = 0;
    while let Some(letter) = text[place..].chars().next() {
        if ends.contains(&letter) {
            return place;
        }
        if matches!(letter, '{' | '(' | '[' | '<') {
            place += closing(&text[place..]);
        }
        place += text[place..].chars().next().map_or(0, char::len_utf8);
    }
    place
}

/// What a source names of the store's crate.
pub(crate) fn names_of_store(code: &str) -> Vec<String> {
    words(code, "countersign_store")
        .flat_map(|(_, behind)| names_behind(behind))
        .collect()
}

/// What stands behind the name of a crate: the first name of the path, or all that a group names.
pub(crate) fn names_behind(behind: &str) -> Vec<String> {
    let Some(path) = behind.trim_start().strip_prefix("::") else {
        // The crate itself, under its own name or another one.
        return vec!["::".to_owned()];
    };
    let path = path.trim_start();
    if path.starts_with('{') {
        let list = parts(&path[1..closing(path)]);
        return list.into_iter().map(str::to_owned).collect();
    }
    let end = path.find(|letter| !is_word(letter) && letter != '*');
    let name = &path[..end.unwrap_or(path.len())];
    let renames = path[name.len()..].trim_start().starts_with("as ");
    vec![if renames {
        format!("{name} as")
    } else {
        name.to_owned()
    }]
}

/// What a source declares as `pub`: the heads of functions, structs and enums, the fields, what the variants hold, and traits
/// as a whole.
pub(crate) fn public_items(code: &str) -> Vec<&str> {
    let mut items = Vec::new();
    for (before, behind) in words(code, "pub") {
        if behind.starts_with('(') {
            continue;
        }
        let kind = behind.split_whitespace().next().unwrap_or_default();
        let end = match kind {
            "fn" | "async" | "const" | "static" | "struct" | "enum" | "unsafe" => {
                behind.find(['{', ';']).expect("the item ends")
            }
            "trait" => {
                let body = behind.find('{').expect("a trait has a body");
                body + closing(&behind[body..]) + 1
            }
            "use" | "mod" | "type" => first_outside(behind, &[';']),
            _ => first_outside(behind, &[',', '}', ')']),
        };
        let start = before.len();
        items.push(code[start..start + "pub".len() + end].trim_end());
        if kind == "enum" {
            let body = &behind[end..];
            let variants = parts(&body[1..closing(body)]).into_iter();
            items.extend(variants.filter_map(held_by));
        }
    }
    items
}

/// What a variant of an enum holds.
fn held_by(mut variant: &str) -> Option<&str> {
    while let Some(attribute) = variant.strip_prefix('#') {
        variant = attribute[closing(attribute) + 1..].trim_start();
    }
    variant.find(['(', '{']).map(|held| &variant[held..])
}

/// Whether an item has this name, and not one of the same spelling in another module.
pub(crate) fn is_in(item: &str, name: &str) -> bool {
    words(item, name).any(|(before, _)| !before.ends_with("::"))
}

#[test]
fn every_way_to_name_the_store_and_every_public_item_is_found() {
    let named = |code: &str| names_of_store(code);
    assert_eq!(
        named("use countersign_store::{OpenError, StoreChoice};"),
        ["OpenError", "StoreChoice"]
    );
    assert_eq!(
        named("use countersign_store::{\n    Store as _,\n};"),
        ["Store as _"]
    );
    assert_eq!(named("use countersign_store::sqlite::X;"), ["sqlite"]);
    assert_eq!(
        named("use countersign_store::{a::{B, C}, D};"),
        ["a::{B, C}", "D"]
    );
    assert_eq!(named("let x = countersign_store :: Node::ONLY;"), ["Node"]);
    assert_eq!(named("use countersign_store as s;"), ["::"]);
    assert_eq!(
        named("use countersign_store::Row as OpenError;"),
        ["Row as"]
    );
    assert_eq!(named("use countersign_store::*;"), ["*"]);
    assert_eq!(named("my_countersign_store::X"), Vec::<String>::new());

    let code = "pub fn a(x: &[Row]) -> B { c(d) }\npub(crate) fn e(x: Row) {}\npub struct F { g: Row, pub h: Arc<Row, I>, }\n\
                pub enum J { #[k] K(Row), Row, L { m: Row } }\npub struct L(pub Row, M);\npub use n::{O};";
    assert_eq!(
        public_items(code),
        [
            "pub fn a(x: &[Row]) -> B",
            "pub struct F",
            "pub h: Arc<Row, I>",
            "pub enum J",
            "(Row)",
            "{ m: Row }",
            "pub struct L(pub Row, M)",
            "pub Row",
            "pub use n::{O}",
        ]
    );
    assert!(is_in("pub a: Vec<Row>", "Row"));
    assert!(!is_in("pub a: body::Row", "Row"));
    assert!(!is_in("pub a: RowOfOurs", "Row"));
}

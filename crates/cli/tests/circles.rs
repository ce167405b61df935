//! Checks that files of one crate do not import each other in a circle.
//!
//! An import is the use of an item that another file declares, by a `use` or by a path such as `crate::tokens::page`. A
//! re-export is followed to the file that declares the item. Three things do not count: the declaration `mod tokens;`,
//! tests, and a `use` of a module alone, because its items count where they are used.
//!
//! A parent is the root of a crate or a `mod.rs`. A parent and the children that it declares form one unit. So a loop
//! through a parent that stays among its children is not a circle. A loop that leaves them is a circle, and so is a
//! loop among the children alone.
#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that hold nothing but tests.
const TESTS: &[&str] = &["tests", "testing", "conformance"];
/// The longest chain of re-exports that is followed.
const MAX_HOPS: usize = 8;

/// The path of a module from the root of its crate, which is the empty one.
type Module = Vec<String>;
/// Which file imports from which one, and the items.
type Imports = BTreeMap<(Module, Module), BTreeSet<String>>;

#[test]
fn files_of_one_crate_import_each_other_in_no_circle() {
    let mut folders = vec![root().join("bench")];
    let crates = fs::read_dir(root().join("crates")).expect("the folder can be read");
    folders.extend(crates.map(|entry| entry.expect("an entry").path()));
    folders.sort();

    let mut files = 0;
    let mut wrong = String::new();
    for folder in folders {
        let krate = Crate::read(&folder.join("src"));
        let imports = krate.imports();
        files += krate.files.len();
        let modules: BTreeSet<Module> = krate.files.keys().cloned().collect();
        for circle in circles(&modules, &imports) {
            wrong += &krate.describe(&circle, &imports);
        }
    }
    assert!(files > 100, "the sources were not found");
    assert!(wrong.is_empty(), "move a declaration:\n{wrong}");
}

#[test]
fn a_circle_among_siblings_is_found() {
    let found = circles_of(&[
        ("", "mod a; mod b; mod c;"),
        ("a", "use crate::b::B;"),
        ("b", "use std::fmt; fn f() { super::c::run::<u8>() }"),
        ("c", "use crate::{a::{self, Other}, b}; pub fn run() {}"),
    ]);
    assert_eq!(found, ["a b c"]);
}

#[test]
fn a_reexport_hides_no_circle() {
    let found = circles_of(&[
        ("", "mod a; mod b; pub use a::A; use b as other;"),
        ("a", "use crate::other; fn f() { other::run() }"),
        ("b", "use crate::A as Renamed;"),
    ]);
    assert_eq!(found, ["a b"]);
}

#[test]
fn a_parent_and_its_children_are_one_unit() {
    let found = circles_of(&[
        ("", "mod a; use a::A; pub struct Root;"),
        ("a", "mod b; mod c; use b::B; pub struct A;"),
        ("a::b", "use crate::Root; use super::{A, c::C};"),
        ("a::c", "use super::A;"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_circle_that_leaves_a_folder_is_found() {
    let found = circles_of(&[
        ("", "mod a; mod x;"),
        ("a", "mod b; pub fn run() { b::run() }"),
        ("a::b", "use crate::x::X;"),
        ("x", "fn f() { crate::a::run() }"),
    ]);
    assert_eq!(found, ["a a::b x"]);
}

#[test]
fn tests_comments_texts_and_modules_alone_are_no_imports() {
    let found = circles_of(&[
        ("", "mod a; mod b;"),
        ("a", "use crate::b::B;"),
        (
            "b",
            "//! Of [`A`](crate::a::A).
            use crate::a;
            #[cfg(test)] use crate::a::A;
            const TEXT: (&str, &str, char) = (\"crate::a::A\", r#\"\"crate::a::A\"#, '\"');
            /* crate::a::A */
            #[cfg(test)] mod tests { use super::*; use crate::a::A; }",
        ),
    ]);
    assert_eq!(found, [""; 0]);
}

/// The circles of a crate with these modules, each as the names of its modules.
fn circles_of(sources: &[(&str, &str)]) -> Vec<String> {
    let mut krate = Crate::default();
    for (name, text) in sources {
        let module = segments(name);
        krate.files.insert(module.clone(), (*name).to_owned());
        krate.scan(module, text);
    }
    let found = circles(&krate.files.keys().cloned().collect(), &krate.imports());
    let names = |circle: &BTreeSet<Module>| {
        let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
        names.join(" ")
    };
    found.iter().map(names).collect()
}

/// The modules of a crate and what they name.
#[derive(Default)]
struct Crate {
    /// Each module that has a file, and that file's path in the repository.
    files: BTreeMap<Module, String>,
    /// What each module, one without a file too, has brought into scope: a name, and the path that it stands for.
    scopes: BTreeMap<Module, BTreeMap<String, Module>>,
    /// Each path that is named, and the module that names it.
    paths: Vec<(Module, Module)>,
}

impl Crate {
    /// Reads the modules that are declared from the root downward.
    fn read(src: &Path) -> Self {
        let mut krate = Self::default();
        let mut open = vec![Module::new()];
        while let Some(module) = open.pop() {
            let name: PathBuf = module.iter().collect();
            let candidates = if module.is_empty() {
                [src.join("lib.rs"), src.join("main.rs")]
            } else {
                [
                    src.join(&name).with_extension("rs"),
                    src.join(&name).join("mod.rs"),
                ]
            };
            let file = candidates.iter().find(|file| file.exists());
            let file = file.unwrap_or_else(|| panic!("no file {candidates:?}"));
            let text = fs::read_to_string(file).expect("the file can be read");
            let shown = file.strip_prefix(root()).expect("a file of the repository");
            krate
                .files
                .insert(module.clone(), shown.display().to_string());
            open.extend(krate.scan(module, &text));
        }
        krate
    }

    /// Notes what a file names, and returns the modules that it declares to be in other files.
    fn scan(&mut self, file: Module, text: &str) -> Vec<Module> {
        let tokens = tokens(text);
        let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
        let (mut scope, mut braces) = (file, Vec::new());
        let (mut declared, mut at) = (Vec::new(), 0);
        self.scopes.entry(scope.clone()).or_default();
        while at < tokens.len() {
            match token(at) {
                "#" if tokens[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) => {
                    at = end_of_item(&tokens, at + 7);
                    continue;
                }
                "mod" if token(at + 2) == ";" && !TESTS.contains(&token(at + 1)) => {
                    declared.push(child(&scope, token(at + 1)));
                }
                "mod" if token(at + 2) == "{" => {
                    braces.push(scope.len());
                    scope = child(&scope, token(at + 1));
                    self.scopes.entry(scope.clone()).or_default();
                    at += 3;
                    continue;
                }
                "{" => braces.push(scope.len()),
                "}" => scope.truncate(braces.pop().unwrap_or_default()),
                "use" => {
                    let mut uses = Vec::new();
                    at = use_tree(&tokens, at + 1, &[], &mut uses);
                    for (name, path) in uses {
                        self.paths.push((scope.clone(), path.clone()));
                        let names = self.scopes.entry(scope.clone()).or_default();
                        names.entry(name).or_insert(path);
                    }
                    continue;
                }
                first if is_name(first) && token(at + 1) == "::" => {
                    let mut path = vec![first.to_owned()];
                    while token(at + 1) == "::" && is_name(token(at + 2)) {
                        path.push(token(at + 2).to_owned());
                        at += 2;
                    }
                    self.paths.push((scope.clone(), path));
                }
                _ => {}
            }
            at += 1;
        }
        declared
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (from, path) in &self.paths {
            let Some((module, Some(item))) = self.resolve(from, path, MAX_HOPS) else {
                continue;
            };
            let (from, to) = (self.file_of(from), self.file_of(&module));
            if from != to {
                imports.entry((from, to)).or_default().insert(item);
            }
        }
        imports
    }

    /// Finds the module that declares what `from` calls `path`, and the item's name; `None` for what another crate declares.
    fn resolve(
        &self,
        from: &Module,
        path: &[String],
        hops: usize,
    ) -> Option<(Module, Option<String>)> {
        let mut module = from.clone();
        for (position, name) in path.iter().enumerate() {
            match name.as_str() {
                "crate" => module.clear(),
                "super" => drop(module.pop()),
                "self" => {}
                _ if self.scopes.contains_key(&child(&module, name)) => module.push(name.clone()),
                _ => match self.scopes.get(&module).and_then(|names| names.get(name)) {
                    Some(path) => match self.resolve(&module, path, hops.checked_sub(1)?)? {
                        (declaring, None) => module = declaring,
                        item => return Some(item),
                    },
                    // A path begins with a name of its own module or of another crate: not an import.
                    None if position == 0 => return None,
                    None => return Some((module, Some(name.clone()))),
                },
            }
        }
        Some((module, None))
    }

    /// The nearest module that has a file.
    fn file_of(&self, module: &Module) -> Module {
        let mut module = module.clone();
        while !self.files.contains_key(&module) {
            module.pop();
        }
        module
    }

    fn describe(&self, circle: &BTreeSet<Module>, imports: &Imports) -> String {
        let mut text = format!("\na circle of {} files:\n", circle.len());
        for ((from, to), items) in imports {
            if circle.contains(from) && circle.contains(to) {
                let items: Vec<_> = items.iter().map(String::as_str).collect();
                let (from, to) = (&self.files[from], &self.files[to]);
                let _ = writeln!(text, "  {from} imports {} from {to}", items.join(", "));
            }
        }
        text
    }
}

/// The circles among `modules`: the largest sets in which each reaches each other. Where such a set lies under a parent that is
/// part of it, those that remain without the parent.
fn circles(modules: &BTreeSet<Module>, imports: &Imports) -> Vec<BTreeSet<Module>> {
    let reached_from = |start: &Module| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(module) = open.pop() {
            let next = imports.keys().filter(|(from, _)| from == module);
            for (_, to) in next.filter(|(_, to)| modules.contains(to)) {
                if reached.insert(to.clone()) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<_, _> = modules.iter().map(|it| (it, reached_from(it))).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for module in modules {
        let is_mutual = |other: &&Module| reached[*other].contains(module);
        let set: BTreeSet<_> = reached[module].iter().filter(is_mutual).cloned().collect();
        if !seen.insert(set.clone()) || set.len() < 2 {
            continue;
        }
        let parent = common_parent(&set);
        if set.contains(&parent) {
            let rest = set.into_iter().filter(|it| *it != parent).collect();
            found.extend(circles(&rest, imports));
        } else {
            found.push(set);
        }
    }
    found
}

fn common_parent(modules: &BTreeSet<Module>) -> Module {
    let mut parent = modules.first().cloned().unwrap_or_default();
    while !modules.iter().all(|module| module.starts_with(&parent)) {
        parent.pop();
    }
    parent
}

/// Reads the tree of a `use` from `at` on and returns where it ends. Notes each name that it brings into scope with its path.
fn use_tree(
    tokens: &[&str],
    mut at: usize,
    prefix: &[String],
    uses: &mut Vec<(String, Module)>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut name = None;
    let mut is_group = false;
    while let Some(&token) = tokens.get(at) {
        match token {
            "{" => {
                is_group = true;
                while !matches!(tokens.get(at), None | Some(&"}")) {
                    at = use_tree(tokens, at + 1, &path, uses);
                }
            }
            "," | "}" | ";" => break,
            "as" => {
                name = tokens.get(at + 1).map(|&name| name.to_owned());
                at += 1;
            }
            "::" => {}
            _ => path.push(token.to_owned()),
        }
        at += 1;
    }
    let last = path.iter().rfind(|segment| *segment != "self").cloned();
    if let (false, Some(name)) = (is_group || path.len() == prefix.len(), name.or(last)) {
        uses.push((name, path));
    }
    at
}

/// Where the item ends that begins at `at`: after its braces, or after its semicolon.
fn end_of_item(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0_u32;
    for (position, &token) in tokens.iter().enumerate().skip(at) {
        match token {
            "(" | "[" | "{" => depth += 1,
            // A field at the end of its braces.
            ")" | "]" | "}" if depth == 0 => return position,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(token, ";" | "}") {
            return position + 1;
        }
    }
    tokens.len()
}

/// The names and signs of a Rust file, without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if first == '"' {
            quoted(rest)
        } else if first == '\'' {
            let mut after = rest.chars().skip(1);
            match (after.next(), after.next()) {
                (Some('\\'), _) => quoted(rest),
                (Some(one), Some('\'')) => one.len_utf8() + 2,
                _ => 1,
            }
        } else {
            let word = rest.find(|it: char| !it.is_alphanumeric() && it != '_');
            let length = match word.unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                length => length,
            };
            if !first.is_whitespace() {
                tokens.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the raw text that `rest` begins with.
fn raw_text(rest: &str) -> Option<usize> {
    let start = rest.trim_start_matches(['b', 'c']).strip_prefix('r')?;
    let text = start.trim_start_matches('#');
    let hashes = &start[..start.len() - text.len()];
    let end = format!("\"{hashes}");
    let text = text.strip_prefix('"')?;
    let length = text.find(&end).map_or(text.len(), |at| at + end.len());
    Some(rest.len() - text.len() + length)
}

/// The length of the text or character that `rest` begins with.
fn quoted(rest: &str) -> usize {
    let quote = rest.chars().next();
    let mut is_escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if !is_escaped && Some(character) == quote {
            return at + 1;
        }
        is_escaped = !is_escaped && character == '\\';
    }
    rest.len()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn child(module: &Module, name: &str) -> Module {
    let mut child = module.clone();
    child.push(name.to_owned());
    child
}

fn segments(name: &str) -> Module {
    let parts = name.split("::").filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

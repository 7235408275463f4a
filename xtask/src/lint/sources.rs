//! Rules for Rust sources: layers, headers, sizes, where unsafe code and the outside world may appear, no loose ends.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Verdict;
use crate::failure::Result;
use crate::layers::{self, Layers};
use crate::progress::Progress;
use crate::source;
use crate::workspace::{Workspace, files_below, read};

/// Lines of code without tests at which a file should be split by job, and beyond which it must be.
const LINES_WARN: usize = 600;
const LINES_MAX: usize = 1000;

/// Where unsafe code may stand. Each such file is small, has a safe API and proves its blocks. In the extension, wherever the
/// server's C is met; what is plain Rust over the engine, `ops/`, is not such a place but for the bytes of a heap tuple.
const UNSAFE_PLACES: [&str; 24] = [
    "engine/src/mem/",
    "engine/src/env/uring/",
    "engine/src/env/uring.rs",
    "engine/src/env/map.rs",
    "engine/src/env/sys.rs",
    "tests/src/shared_region.rs",
    "pg_extension/src/lib.rs",
    "pg_extension/src/handler.rs",
    "pg_extension/src/am/",
    "pg_extension/src/backup.rs",
    "pg_extension/src/ffi/",
    "pg_extension/src/guc.rs",
    "pg_extension/src/hooks.rs",
    "pg_extension/src/hooks/",
    "pg_extension/src/io.rs",
    "pg_extension/src/link.rs",
    "pg_extension/src/operators",
    "pg_extension/src/ops/tuple.rs",
    "pg_extension/src/shmem.rs",
    "pg_extension/src/wait_event.rs",
    "pg_extension/src/wal.rs",
    "pg_extension/src/wal/decode.rs",
    "pg_extension/src/worker",
    "pg_extension/src/xact/",
];

/// Where the engine may touch the kernel, the clock and threads.
const WORLD_PLACES: [&str; 2] = ["engine/src/env/", "engine/src/env.rs"];

/// What only the world may call, and what to call instead.
const WORLD_CALLS: [(&str, &str); 7] = [
    ("std::fs", "files come from `env::Env`, so that simulation can crash and fail them"),
    ("fs::File", "files come from `env::Env`, so that simulation can crash and fail them"),
    ("File::open", "files come from `env::Env`, so that simulation can crash and fail them"),
    ("Instant::now", "time comes from `env::Env::now`, so that simulation repeats"),
    ("SystemTime::now", "time comes from `env::Env::unix_time`, so that simulation repeats"),
    ("thread::spawn", "threads come from `env::Env::spawn`; background work is jobs"),
    ("thread::sleep", "waiting is `env::Env::sleep`, so that simulation does not wait"),
];

/// A Rust file of the project, as the checks see it.
pub(crate) struct SourceFile {
    /// From the root, with forward slashes.
    pub(crate) path: String,
    text: String,
    /// Without comments, literals and tests.
    code: String,
    /// The whole file is compiled for tests only.
    is_test: bool,
}

fn load(workspace: &Workspace, files: Vec<PathBuf>) -> Result<Vec<SourceFile>> {
    let mut loaded = Vec::new();
    let mut test_only = BTreeSet::new();
    for file in files {
        let text = read(&file)?;
        let path = workspace.relative(&file);
        let all_code = source::code_only(&text);
        let code = source::without_tests(&all_code);
        test_only.extend(test_modules(&all_code, &code).map(|name| format!("{}/{name}", child_dir(&path))));
        loaded.push(SourceFile { path, text, code, is_test: false });
    }
    for file in &mut loaded {
        let module = file.path.trim_end_matches(".rs");
        file.is_test = test_only.iter().any(|t| module == t || module.starts_with(&format!("{t}/")));
    }
    Ok(loaded)
}

/// Files of the engine that are not tests.
pub(crate) fn engine(workspace: &Workspace) -> Result<Vec<SourceFile>> {
    let files = load(workspace, files_below(&workspace.path("engine/src"), "rs")?)?;
    Ok(files.into_iter().filter(|f| !f.is_test).collect())
}

/// Names declared as `mod name;` in the parts of a file that are for tests only.
fn test_modules<'c>(all_code: &'c str, code: &'c str) -> impl Iterator<Item = &'c str> {
    source::find_word(all_code, "mod").into_iter().filter(|&at| !code[at..].starts_with("mod")).filter_map(|at| {
        let (name, _) = all_code[at + 3..].split_once([';', '{'])?;
        all_code[at..].trim_start_matches(|c: char| c != ';' && c != '{').starts_with(';').then(|| name.trim())
    })
}

/// The directory (without extension) that holds the child modules of a file.
fn child_dir(path: &str) -> &str {
    let module = path.trim_end_matches(".rs");
    module.strip_suffix("/lib").or_else(|| module.strip_suffix("/main")).unwrap_or(module)
}

/// Modules name lower layers only.
pub(crate) fn layers(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let rules = Layers::parse(&workspace.read("engine/layers.toml")?)?;
    let mut findings = Vec::new();
    for file in engine(workspace)? {
        let module = layers::module_of(file.path.trim_start_matches("engine/src/"));
        for edge in layers::edges(&file.code, &module) {
            if let Some(objection) = rules.objection(&module[0], &edge.to) {
                findings.push(format!("{}:{}: {objection}", file.path, edge.line));
            }
        }
    }
    Ok(Verdict::of(findings))
}

/// Every file says its job in its first line. The job of a file of tests is known from its name.
pub(crate) fn headers(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let files = load(workspace, workspace.rust_files()?)?;
    let bare = files.iter().filter(|f| !f.is_test && !f.text.starts_with("//! "));
    Ok(Verdict::of(bare.map(|f| format!("{}:1: does not start with `//!` and the file's job", f.path)).collect()))
}

/// Files stay short enough to have one job.
pub(crate) fn sizes(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let (mut findings, mut warnings) = (Vec::new(), Vec::new());
    for file in load(workspace, workspace.rust_files()?)? {
        let lines = if file.is_test { 0 } else { lines_without_tests(&file.text, &file.code) };
        let finding = format!("{}: {lines} lines without tests; split it by job", file.path);
        if lines > LINES_MAX {
            findings.push(finding);
        } else if lines > LINES_WARN {
            warnings.push(finding);
        }
    }
    Ok(if findings.is_empty() { Verdict::Fine(warnings) } else { Verdict::Broken(findings) })
}

/// Lines up to the last one that has code outside tests; tests stand last in a file.
fn lines_without_tests(text: &str, code: &str) -> usize {
    let with_code = code.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).last();
    with_code.map_or(text.lines().count(), |(index, _)| index + 1)
}

/// Unsafe code stands only where it is expected.
pub(crate) fn unsafe_places(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut findings = Vec::new();
    for file in load(workspace, workspace.rust_files()?)? {
        if UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        let code = source::code_only(&file.text);
        for at in source::find_word(&code, "unsafe") {
            findings.push(format!("{}:{}: unsafe code does not belong here", file.path, source::line_of(&code, at)));
        }
    }
    Ok(Verdict::of(findings))
}

/// Only `env/` touches the kernel, the clock and threads; and no test anywhere sleeps.
pub(crate) fn world(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut findings = Vec::new();
    for file in engine(workspace)? {
        if !WORLD_PLACES.iter().any(|place| file.path.starts_with(place)) {
            findings.extend(world_calls(&file.code).into_iter().map(|f| format!("{}:{f}", file.path)));
        }
    }
    for file in load(workspace, workspace.rust_files()?)? {
        if !WORLD_PLACES.iter().any(|place| file.path.starts_with(place)) {
            findings.extend(sleeps(&file.text, &file.code).into_iter().map(|f| format!("{}:{f}", file.path)));
        }
    }
    Ok(Verdict::of(findings))
}

fn world_calls(code: &str) -> Vec<String> {
    let calls = WORLD_CALLS.iter().flat_map(|(call, instead)| {
        let places = source::find_word(code, call).into_iter();
        places.map(move |at| format!("{}: `{call}`: {instead}", source::line_of(code, at)))
    });
    calls.collect()
}

/// Sleeps in the tests of a file; those in its other code are found by [`world_calls`].
fn sleeps(text: &str, code: &str) -> Vec<String> {
    let all = source::code_only(text);
    let places = source::find_word(&all, "thread::sleep").into_iter().filter(|&at| !code[at..].starts_with("thread"));
    places.map(|at| format!("{}: `thread::sleep`: wait on a state with a bound", source::line_of(&all, at))).collect()
}

/// Nothing is left for later: no marks of unfinished work, no ignored tests.
pub(crate) fn unfinished(workspace: &Workspace, _progress: &Progress) -> Result<Verdict> {
    let mut findings = Vec::new();
    for file in load(workspace, workspace.rust_files()?)? {
        findings.extend(unfinished_marks(&file.text).into_iter().map(|f| format!("{}:{f}", file.path)));
    }
    Ok(Verdict::of(findings))
}

fn unfinished_marks(text: &str) -> Vec<String> {
    const MARKS: [&str; 3] = ["TODO", "FIXME", "XXX"];
    const CALLS: [&str; 4] = ["#[ignore", "todo!", "unimplemented!", "dbg!"];
    let mut found = Vec::new();
    for (line, comment) in source::comments(text) {
        found.extend(MARKS.iter().filter(|m| comment.contains(**m)).map(|m| format!("{line}: `{m}`")));
    }
    let code = source::code_only(text);
    for call in CALLS {
        found.extend(code.match_indices(call).map(|(at, _)| format!("{}: `{call}`", source::line_of(&code, at))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        source::without_tests(&source::code_only(text))
    }

    #[test]
    fn world_calls_are_found_outside_tests() {
        let text = "use std::fs;\nfn f() { let t = std::time::Instant::now(); }\n// std::fs\n#[cfg(test)]\nmod tests { fn g() { std::thread::sleep(x) } }\n";
        let found = world_calls(&code(text));
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("1: `std::fs`"));
        assert!(found[1].starts_with("2: `Instant::now`"));
        assert_eq!(sleeps(text, &code(text)), ["5: `thread::sleep`: wait on a state with a bound"]);
    }

    #[test]
    fn unfinished_marks_are_found_in_comments_and_code() {
        let text = "// TODO: later\nlet s = \"TODO\";\n#[ignore]\nfn f() { todo!() }\nlet url = \"http://x/XXX\";\n";
        assert_eq!(unfinished_marks(text), ["1: `TODO`", "3: `#[ignore`", "4: `todo!`"]);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        assert_eq!(lines_without_tests(text, &code(text)), 1);
    }

    #[test]
    fn test_modules_in_their_own_files_are_known() {
        let text = "mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod inline { }\n";
        let all = source::code_only(text);
        let rest = source::without_tests(&all);
        assert_eq!(test_modules(&all, &rest).collect::<Vec<_>>(), ["tests"]);
        assert_eq!(child_dir("engine/src/lib.rs"), "engine/src");
        assert_eq!(child_dir("engine/src/mem.rs"), "engine/src/mem");
    }
}

//! Reads SQL as psql does: where statements end, and which lines are COPY data.
//!
//! As far as the scripts of Postgres's tests need it: quotes (with the backslashes of `E''`), dollar quotes, comments,
//! parentheses, bodies of `BEGIN ATOMIC … END`, `\;`, and the commands of psql that send a statement.

use crate::comparison::statement::words;

/// A piece of SQL: one character of code, or a whole literal, quoted name or comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// In bytes.
    pub(crate) length: usize,
    /// A character outside literals, quoted names and comments.
    pub(crate) is_code: bool,
}

/// A line of a script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ScriptLine<'s> {
    pub(crate) text: &'s str,
    /// psql prints it.
    pub(crate) is_echoed: bool,
    /// The statements and commands of psql that end on it.
    pub(crate) ended: Vec<&'s str>,
}

/// The parts of `sql` and where each starts.
pub(crate) fn scan(sql: &str) -> impl Iterator<Item = (usize, Part)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let part = part_at(sql, at)?;
        at += part.length;
        Some((at - part.length, part))
    })
}

/// The part that starts at `at`; `None` at the end.
fn part_at(sql: &str, at: usize) -> Option<Part> {
    let rest = &sql[at..];
    let first = rest.chars().next()?;
    let literal = |length: usize| Some(Part { length, is_code: false });
    let previous = sql[..at].chars().next_back();
    match first {
        '-' if rest.starts_with("--") => literal(rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => literal(comment_length(rest)),
        '\'' => {
            let before = sql[..at].trim_end_matches(['e', 'E']).chars().next_back();
            let has_escapes =
                matches!(previous, Some('e' | 'E')) && !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
            literal(quoted_length(rest, '\'', has_escapes))
        }
        '"' => literal(quoted_length(rest, '"', false)),
        '$' if !previous.is_some_and(|c| c.is_alphanumeric() || c == '_') => match dollar_tag(rest) {
            Some(tag) => {
                let body = &rest[tag.len()..];
                literal(body.find(tag).map_or(rest.len(), |end| tag.len() + end + tag.len()))
            }
            None => Some(Part { length: 1, is_code: true }),
        },
        _ => Some(Part { length: first.len_utf8(), is_code: true }),
    }
}

/// Length of the comment at the start, with those nested in it.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the quoted text at the start. A doubled quote needs no rule: it ends one literal and starts the next.
fn quoted_length(text: &str, quote: char, has_escapes: bool) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if has_escapes && c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// `$tag$` at the start.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let name = &text[1..end];
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_numeric());
    is_name.then(|| &text[..=end])
}

/// What is known at a place in the script.
#[derive(Default)]
struct State {
    /// Start of the statement.
    start: usize,
    parentheses: usize,
    /// Open BEGINs and CASEs of a function's body.
    blocks: usize,
    word: String,
    /// The first words of the statement.
    first_words: Vec<String>,
}

impl State {
    /// A word of code ended: counts the blocks of a function written in SQL.
    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word).to_lowercase();
        let makes_function = self.first_words.first().is_some_and(|w| w == "create")
            && self.first_words.iter().any(|w| w == "function" || w == "procedure");
        if makes_function && self.parentheses == 0 {
            match word.as_str() {
                "begin" => self.blocks += 1,
                "case" if self.blocks > 0 => self.blocks += 1,
                "end" => self.blocks = self.blocks.saturating_sub(1),
                _ => {}
            }
        }
        if self.first_words.len() < 4 {
            self.first_words.push(word);
        }
    }

    fn next_statement(&mut self, start: usize) {
        *self = Self { start, ..Self::default() };
    }
}

/// The lines of a script. Its output tells which COPY failed before it read its data: psql then took these for SQL.
pub(crate) fn lines<'s>(sql: &'s str, output: &[&str]) -> Vec<ScriptLine<'s>> {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(sql.match_indices('\n').map(|(at, _)| at + 1));
    let mut lines: Vec<ScriptLine<'_>> =
        sql.split('\n').map(|text| ScriptLine { text, is_echoed: !text.is_empty(), ended: Vec::new() }).collect();
    let line_of = |at: usize| starts.partition_point(|&start| start <= at) - 1;
    let end_of = |line: usize| starts.get(line + 1).copied().unwrap_or(sql.len());
    let mut state = State::default();
    let mut copies = Copies { output };
    let mut at = 0;
    while let Some(part) = part_at(sql, at) {
        let text = &sql[at..at + part.length];
        let line = line_of(at);
        let mut next = at + part.length;
        if !part.is_code {
            state.end_word();
            // psql prints empty lines inside a literal, too.
            for inner in &mut lines[line + 1..=line_of(next - 1)] {
                inner.is_echoed = true;
            }
        } else if text.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            state.word.push_str(text);
        } else {
            state.end_word();
            match text {
                "(" => state.parentheses += 1,
                ")" => state.parentheses = state.parentheses.saturating_sub(1),
                ";" if state.parentheses == 0 && state.blocks == 0 => {
                    let statement = &sql[state.start..next];
                    lines[line].ended.push(statement);
                    state.next_statement(next);
                    let blocks = copies.blocks_of_data(statement, &lines[line..]);
                    if blocks > 0 {
                        next = skip_data(&mut lines, line, blocks, end_of);
                        state.next_statement(next);
                    }
                }
                "\\" if sql[next..].starts_with(';') => next += 1,
                "\\" => {
                    let command = sql[at..end_of(line)].trim_end();
                    next = end_of(line);
                    if sends_statement(command) {
                        lines[line].ended.push(if is_plain_send(command) { &sql[state.start..at] } else { command });
                        state.next_statement(next);
                    } else {
                        lines[line].ended.push(command);
                        if state.first_words.is_empty() {
                            state.next_statement(next);
                        }
                    }
                    let blocks = copies.blocks_of_data(&command[1..], &lines[line..]);
                    if blocks > 0 {
                        next = skip_data(&mut lines, line, blocks, end_of);
                        state.next_statement(next);
                    }
                }
                _ => {}
            }
        }
        at = next;
    }
    silence(&mut lines);
    lines
}

/// Whether a command of psql sends the statement before it.
fn sends_statement(command: &str) -> bool {
    let name = command[1..].split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    matches!(name, "g" | "gx" | "gset" | "gexec" | "gdesc" | "crosstabview" | "watch")
}

/// Whether it prints the rows as a semicolon would.
fn is_plain_send(command: &str) -> bool {
    command.trim_end() == "\\g"
}

/// The output after the last COPY that was looked at.
struct Copies<'o> {
    output: &'o [&'o str],
}

impl Copies<'_> {
    /// How many blocks of data for COPY follow a statement: one for each part of it that reads its input (`from stdout` is
    /// read as `from stdin` is); none if the statement failed first. `lines` start with the one on which it ends.
    fn blocks_of_data(&mut self, statement: &str, lines: &[ScriptLine<'_>]) -> usize {
        /// Lines of the message of a COPY that failed.
        const MESSAGE_MAX: usize = 8;
        let reads = |part: &&str| {
            let words = words(part);
            let source = |pair: &[String]| pair[0] == "from" && matches!(pair[1].as_str(), "stdin" | "stdout");
            words.first().is_some_and(|w| w == "copy") && words.windows(2).any(source)
        };
        let blocks = statement.split("\\;").filter(reads).count();
        if blocks == 0 {
            return 0;
        }
        let Some(echo) = self.output.iter().position(|l| *l == lines[0].text) else { return blocks };
        self.output = &self.output[echo + 1..];
        let next = lines[1..].iter().find(|line| !line.text.is_empty()).map(|line| line.text);
        let failed = self.output.first().is_some_and(|l| l.starts_with("ERROR:  "));
        let is_echoed = || self.output.iter().take(MESSAGE_MAX).any(|l| Some(*l) == next);
        if failed && is_echoed() { 0 } else { blocks }
    }
}

/// Marks the lines of `blocks` blocks of data after `line`, each up to `\.`; returns where the script goes on.
fn skip_data(lines: &mut [ScriptLine<'_>], line: usize, blocks: usize, end_of: impl Fn(usize) -> usize) -> usize {
    let mut last = line;
    for _ in 0..blocks {
        let is_end = |l: &ScriptLine<'_>| l.text == "\\.";
        let Some(length) = lines[last + 1..].iter().position(is_end) else { break };
        for data in &mut lines[last + 1..=last + 1 + length] {
            data.is_echoed = false;
        }
        last += 1 + length;
    }
    end_of(last)
}

/// Takes back the echo of what psql reads between `\set ECHO none` (or less than all) and `\set ECHO all`.
fn silence(lines: &mut [ScriptLine<'_>]) {
    let mut is_silent = false;
    for line in lines {
        let was_silent = is_silent;
        if let Some(level) = line.text.strip_prefix("\\set ECHO ") {
            is_silent = level.trim() != "all";
        }
        line.is_echoed &= !was_silent;
    }
}

//! What a statement printed, cut into tables, messages and other lines.
//!
//! psql's aligned format and isolationtester's are alike here: a line of column names, a rule of dashes with `+` between
//! the columns, the rows, and `(N rows)`. What does not look so is a line of its own and compared as it stands.

/// A part of what was printed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'t> {
    /// A result.
    Table(Table<'t>),
    /// A message below ERROR, with its detail, hint and context.
    Message(Vec<&'t str>),
    /// Anything else.
    Line(&'t str),
}

impl Item<'_> {
    /// Whether it is a message below ERROR.
    pub(crate) fn is_message(&self) -> bool {
        matches!(self, Self::Message(_))
    }

    /// Whether the two may stand in either order where the order of rows is open: messages raised for rows, copied rows.
    pub(crate) fn may_swap_with(&self, other: &Self, lines_are_rows: bool) -> bool {
        match (self, other) {
            (Self::Message(a), Self::Message(b)) => session_of(a) == session_of(b),
            // An error ends a statement; what stands before it stands before it.
            (Self::Line(a), Self::Line(b)) => lines_are_rows && !is_fatal(a) && !is_fatal(b),
            _ => false,
        }
    }
}

/// A result with its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table<'t> {
    header: &'t str,
    rule: &'t str,
    rows: Vec<Vec<&'t str>>,
    /// `(N rows)`, if there is one.
    pub(crate) footer: Option<&'t str>,
}

impl Table<'_> {
    /// The names of the columns.
    pub(crate) fn columns(&self) -> Vec<String> {
        cells(&[self.header])
    }

    /// The rows as trimmed cells, so that widths do not count. What looks like a place in a column of `places` is the
    /// same everywhere.
    pub(crate) fn rows_as_cells(&self, places: &[String]) -> Vec<Vec<String>> {
        let columns = self.columns();
        let mut rows: Vec<Vec<String>> = self.rows.iter().map(|row| cells(row)).collect();
        for row in rows.iter_mut().filter(|row| row.len() == columns.len()) {
            for (cell, column) in row.iter_mut().zip(&columns) {
                if places.contains(column) && is_place(cell) {
                    "(place)".clone_into(cell);
                }
            }
        }
        rows
    }

    /// Whether the footer counts the rows rightly, or there is none.
    pub(crate) fn counts_agree(&self) -> bool {
        let count = self.footer.and_then(|f| f.trim_start_matches('(').split(' ').next()?.parse().ok());
        self.footer.is_none() || count == Some(self.rows.len())
    }
}

/// Cuts `lines` into items.
pub fn items<'t>(lines: &[&'t str]) -> Vec<Item<'t>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&line) = lines.get(at) {
        if lines.get(at + 1).is_some_and(|next| is_rule(next)) {
            let (table, length) = table(&lines[at..]);
            found.push(Item::Table(table));
            at += length;
        } else if is_message(line) {
            let more = lines[at + 1..].iter().take_while(|l| is_continuation(l)).count();
            found.push(Item::Message(lines[at..=at + more].to_vec()));
            at += 1 + more;
        } else {
            found.push(Item::Line(line));
            at += 1;
        }
    }
    found
}

/// The table at the start of `lines`, and how many lines it has.
fn table<'t>(lines: &[&'t str]) -> (Table<'t>, usize) {
    let mut table = Table { header: lines[0], rule: lines[1], rows: Vec::new(), footer: None };
    let mut is_open = false;
    for (index, &line) in lines.iter().enumerate().skip(2) {
        if is_footer(line) {
            table.footer = Some(line);
            return (table, index + 1);
        }
        if line.is_empty() && !is_open {
            return (table, index);
        }
        match table.rows.last_mut() {
            Some(row) if is_open => row.push(line),
            _ => table.rows.push(vec![line]),
        }
        // A value with a line break: psql marks the end of its part of the column.
        is_open = line.ends_with('+') || line.contains("+|");
    }
    (table, lines.len())
}

/// The trimmed cells of a row; the lines of a row with line breaks are joined by cell order.
fn cells(lines: &[&str]) -> Vec<String> {
    lines.iter().flat_map(|line| line.split('|')).map(|cell| cell.trim().to_owned()).collect()
}

fn is_rule(line: &str) -> bool {
    line.starts_with('-') && line.bytes().all(|b| b == b'-' || b == b'+')
}

fn is_footer(line: &str) -> bool {
    let Some(inner) = line.strip_prefix('(').and_then(|l| l.strip_suffix(')')) else { return false };
    let Some((count, word)) = inner.split_once(' ') else { return false };
    matches!(word, "row" | "rows") && count.bytes().all(|b| b.is_ascii_digit())
}

/// How many of the last lines are messages.
pub(super) fn trailing_messages(lines: &[&str]) -> usize {
    let (mut count, mut more) = (0, 0);
    for line in lines.iter().rev() {
        if is_message(line) {
            count += more + 1;
            more = 0;
        } else if is_continuation(line) {
            more += 1;
        } else {
            break;
        }
    }
    count
}

/// The session that isolationtester puts before a message; empty where psql prints it.
fn session_of<'t>(message: &[&'t str]) -> &'t str {
    let line = message.first().copied().unwrap_or_default();
    line.split_once(": ").filter(|(_, rest)| is_message(rest)).map_or("", |(session, _)| session)
}

/// A message that does not end its statement; isolationtester puts the session before it.
fn is_message(line: &str) -> bool {
    let after_session = line.split_once(": ").map_or(line, |(_, rest)| rest);
    ["NOTICE:  ", "WARNING:  ", "INFO:  "]
        .iter()
        .any(|level| line.starts_with(level) || after_session.starts_with(level))
}

fn is_fatal(line: &str) -> bool {
    ["ERROR:  ", "FATAL:  ", "PANIC:  "].iter().any(|level| line.starts_with(level))
}

fn is_continuation(line: &str) -> bool {
    ["DETAIL:  ", "HINT:  ", "CONTEXT:  "].iter().any(|part| line.starts_with(part))
        || line.starts_with("PL/pgSQL function ")
        || line.starts_with("SQL statement ")
        || line.starts_with("SQL function ")
}

/// A tuple identifier, a number, or a size as `pg_size_pretty` writes it.
fn is_place(cell: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let tid = cell.strip_prefix('(').and_then(|c| c.strip_suffix(')')).and_then(|c| c.split_once(','));
    if let Some((block, offset)) = tid {
        return digits(block) && digits(offset);
    }
    let number = cell
        .split_once(' ')
        .map_or(cell, |(number, unit)| if matches!(unit, "bytes" | "kB" | "MB" | "GB") { number } else { "" });
    digits(number)
}

//! Tables for people: columns with headings, up to 120 characters wide, or as wide as the terminal.

use std::io::IsTerminal as _;

use tabled::{
    builder::Builder,
    settings::{Color, Padding, Style, object::Cell as Place},
};

use super::{Safe, is_coloured, shown};
use crate::arguments::Output;

/// Maximum width of a table in characters, unless the terminal is wider.
const WIDTH: usize = 120;
/// Characters between two columns.
const GAP: usize = 2;
/// Minimum width of a shortened column, in characters.
const LEAST: usize = 12;

/// Meaning of a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// The parameter of SGR, the control sequence for colours.
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
        }
    }

    /// Colours safe text if output is coloured.
    pub(crate) fn paint(self, text: &str) -> String {
        match self.sgr().filter(|_| is_coloured()) {
            Some(sgr) => format!("\x1b[{sgr}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    /// Text that `-o wide` shows instead.
    exact: Option<String>,
    tone: Tone,
}

impl Cell {
    /// A missing value.
    pub(crate) fn missing() -> Self {
        Self::from("-")
    }

    /// A number with a unit, and the exact value that `-o wide` shows.
    pub(crate) fn number(text: String, exact: impl ToString) -> Self {
        Self { exact: Some(exact.to_string()), ..Self::from(text) }
    }

    pub(crate) fn good(self) -> Self {
        self.toned(Tone::Good)
    }

    pub(crate) fn warning(self) -> Self {
        self.toned(Tone::Warning)
    }

    pub(crate) fn bad(self) -> Self {
        self.toned(Tone::Bad)
    }

    fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    fn text(&self, is_exact: bool) -> String {
        let text = self.exact.as_ref().filter(|_| is_exact).unwrap_or(&self.text);
        shown(text).into_owned()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, exact: None, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A missing value is shown as a dash.
impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Self {
        text.filter(|text| !text.is_empty()).map_or_else(Self::missing, Self::from)
    }
}

/// A column of a table of `T`.
pub(crate) struct Column<T> {
    heading: &'static str,
    cell: fn(&T) -> Cell,
    is_wide_only: bool,
    may_be_cut: bool,
}

impl<T> Column<T> {
    /// A column that is never shortened.
    pub(crate) const fn new(heading: &'static str, cell: fn(&T) -> Cell) -> Self {
        Self { heading, cell, is_wide_only: false, may_be_cut: false }
    }

    /// A column that only `-o wide` shows.
    pub(crate) const fn wide(heading: &'static str, cell: fn(&T) -> Cell) -> Self {
        Self { is_wide_only: true, ..Self::new(heading, cell) }
    }

    /// A column of text that is shortened if the table is too wide.
    pub(crate) const fn text(heading: &'static str, cell: fn(&T) -> Cell) -> Self {
        Self { may_be_cut: true, ..Self::new(heading, cell) }
    }
}

/// Rows under headings.
pub(crate) struct Table {
    headings: Vec<String>,
    may_be_cut: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A row for each item.
    pub(crate) fn of<'a, T: 'a>(
        columns: &[Column<T>],
        items: impl IntoIterator<Item = &'a T>,
        output: Output,
    ) -> Self {
        let is_wide = output == Output::Wide;
        let columns: Vec<&Column<T>> =
            columns.iter().filter(|column| is_wide || !column.is_wide_only).collect();
        let row = |item: &T| columns.iter().map(|column| (column.cell)(item)).collect();
        Self {
            headings: columns.iter().map(|column| column.heading.to_owned()).collect(),
            may_be_cut: columns.iter().map(|column| column.may_be_cut).collect(),
            rows: items.into_iter().map(row).collect(),
        }
    }

    /// One item: a row for each column.
    pub(crate) fn card<T>(columns: &[Column<T>], item: &T) -> Self {
        let row = |column: &Column<T>| vec![Cell::from(column.heading), (column.cell)(item)];
        Self::rows(vec![], columns.iter().map(row).collect())
    }

    /// A table of existing rows.
    pub(crate) fn rows(headings: Vec<String>, rows: Vec<Vec<Cell>>) -> Self {
        let columns = rows.first().map_or(headings.len(), Vec::len);
        Self { headings, may_be_cut: vec![false; columns], rows }
    }

    /// Sets the heading of the first column, for tables where it depends on the response.
    pub(crate) fn name_first_column(&mut self, name: &str) {
        if let Some(heading) = self.headings.first_mut() {
            *heading = shown(name).into_owned();
        }
    }

    /// Lays out the table as text.
    pub(crate) fn render(&self, output: Output) -> Safe {
        self.layout(output == Output::Wide, (output == Output::Table).then(width))
    }

    fn layout(&self, is_exact: bool, width: Option<usize>) -> Safe {
        let mut texts: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| cell.text(is_exact)).collect()).collect();
        if let Some(width) = width {
            self.cut(&mut texts, width);
        }
        let mut builder = Builder::default();
        let first = usize::from(!self.headings.is_empty());
        if first == 1 {
            builder.push_record(&self.headings);
        }
        texts.into_iter().for_each(|row| builder.push_record(row));
        let mut table = builder.build();
        table.with(Style::empty()).with(Padding::new(0, GAP, 0, 0));
        if is_coloured() {
            for (y, row) in self.rows.iter().enumerate() {
                for (x, cell) in row.iter().enumerate() {
                    if let Some(sgr) = cell.tone.sgr() {
                        let colour = Color::new(format!("\x1b[{sgr}m"), "\x1b[0m");
                        table.modify(Place::new(y + first, x), colour);
                    }
                }
            }
        }
        let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
        Safe(lines.join("\n"))
    }

    /// Shortens the widest column that may be shortened, repeatedly, until the table fits.
    fn cut(&self, texts: &mut [Vec<String>], width: usize) {
        let heading = |x: usize| self.headings.get(x).map_or(0, |heading| heading.chars().count());
        let mut widths: Vec<usize> = (0..self.may_be_cut.len())
            .map(|x| {
                let cells = texts.iter().filter_map(|row| row.get(x)).map(|text| text.chars().count());
                cells.max().unwrap_or(0).max(heading(x))
            })
            .collect();
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        while total(&widths) > width {
            let excess = total(&widths) - width;
            let widest = (0..widths.len())
                .filter(|x| self.may_be_cut.get(*x) == Some(&true))
                .max_by_key(|x| widths.get(*x).copied());
            let Some(x) = widest else { return };
            let Some(wide) = widths.get_mut(x) else { return };
            let least = LEAST.max(heading(x));
            if *wide <= least {
                return;
            }
            // Removes half of the excess at a time, so that several wide columns share it.
            let some = excess.min((*wide - least).min(excess.div_ceil(2)).max(1));
            *wide -= some;
        }
        for row in texts {
            for (text, wide) in row.iter_mut().zip(&widths) {
                if text.chars().count() > *wide {
                    *text = text.chars().take(wide.saturating_sub(1)).chain(['…']).collect();
                }
            }
        }
    }
}

/// Maximum width of a table, in characters.
fn width() -> usize {
    match std::io::stdout().is_terminal() {
        true => terminal_width().max(WIDTH),
        false => WIDTH,
    }
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item {
        name: &'static str,
        said: String,
        number: u64,
    }

    const COLUMNS: [Column<Item>; 4] = [
        Column::new("name", |item| item.name.into()),
        Column::text("said", |item| item.said.as_str().into()),
        Column::new("number", |item| Cell::number(super::super::count(item.number), item.number)),
        Column::wide("more", |_| Cell::missing()),
    ];

    #[test]
    fn a_table_fits_and_a_wide_one_shows_all_of_it() {
        let items = [
            Item { name: "a", said: "x".repeat(300), number: 1_234_567 },
            Item { name: "b", said: "short".into(), number: 7 },
        ];
        let narrow = Table::of(&COLUMNS, &items, Output::Table).layout(false, Some(WIDTH));
        let narrow = narrow.as_str();
        assert!(narrow.lines().all(|line| line.chars().count() <= WIDTH), "{narrow}");
        assert!(narrow.contains('…') && narrow.contains("1.2 M") && !narrow.contains("more"), "{narrow}");
        let wide = Table::of(&COLUMNS, &items, Output::Wide).layout(true, None);
        let wide = wide.as_str();
        assert!(
            wide.contains(&"x".repeat(300)) && wide.contains("1234567") && wide.contains("more"),
            "{wide}"
        );
    }

    #[test]
    fn names_are_never_cut() {
        let columns = [Column::new("name", |item: &String| item.as_str().into())];
        let name = "n".repeat(200);
        let table = Table::of(&columns, [&name], Output::Table).layout(false, Some(WIDTH));
        assert!(table.as_str().contains(&name));
    }

    #[test]
    fn text_from_outside_stays_in_its_cell() {
        let columns = [Column::new("name", |item: &String| item.as_str().into())];
        let name = "a\n\u{1b}[2Jb".to_owned();
        let table = Table::of(&columns, [&name], Output::Table).layout(false, Some(WIDTH));
        assert_eq!(table.as_str(), "name\na\\u{a}\\u{1b}[2Jb");
    }
}

//! Sparkline: a row of block characters, one for each value, that shows how a number changes. Unknown values are blank.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws values in at most `width` characters; `None` is a gap. If there are more values than characters, each
/// character shows the maximum of its values, so that no peak is lost.
pub(crate) fn sparkline(values: &[Option<u64>], width: usize) -> String {
    let per = values.len().div_ceil(width.max(1)).max(1);
    let columns: Vec<Option<u64>> =
        values.chunks(per).map(|chunk| chunk.iter().copied().flatten().max()).collect();
    let highest = columns.iter().copied().flatten().max().unwrap_or(0);
    let draw = |value: &Option<u64>| match value {
        None => '·',
        Some(0) => ' ',
        Some(value) => {
            let step = (u128::from(*value) * 8).div_ceil(u128::from(highest.max(1)));
            usize::try_from(step).ok().and_then(|step| BLOCKS.get(step - 1)).copied().unwrap_or('█')
        }
    };
    columns.iter().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn it_rises_with_the_values_and_leaves_gaps_open() {
        assert_eq!(sparkline(&[Some(0), Some(1), Some(50), None, Some(100)], 80), " ▁▄·█");
        assert_eq!(sparkline(&[], 80), "");
        assert_eq!(sparkline(&[Some(0)], 80), " ");
    }

    #[test]
    fn many_values_share_a_character_and_the_peak_stays() {
        let mut values = vec![Some(1); 1000];
        values[499] = Some(8);
        let line = sparkline(&values, 10);
        assert_eq!(line.chars().count(), 10);
        assert_eq!(line.chars().filter(|c| *c == '█').count(), 1);
    }
}

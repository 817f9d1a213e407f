# Medians of the rounds, then a table. Files: targets.tsv, then lines id<TAB>subject<TAB>metric<TAB>value<TAB>unit.
# Variable lessened: the figures, with a space before and behind each, whose work was less than the targets are about.

function sortNumbers(list, count,    i, j, x) {
  for (i = 2; i <= count; i++) {
    x = list[i]
    for (j = i - 1; j >= 1 && list[j] > x; j--) list[j + 1] = list[j]
    list[j + 1] = x
  }
}

function median(key,    list, i, n) {
  n = count[key]
  for (i = 1; i <= n; i++) list[i] = value[key, i]
  sortNumbers(list, n)
  smallest = list[1]; largest = list[n]
  return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

function show(x) { return sprintf(x < 0.0995 && x > -0.0995 ? "%.2g" : x < 9999.5 ? "%.4g" : "%.0f", x) }

# How many times better x is than y.
function ratio(x, y) {
  if (x <= 0 || y <= 0) return "-"
  return sprintf("%.2f", better[row] == "lower" ? y / x : x / y)
}

function reached(x) {
  if (floor[row] == "-" || x == "") return "-"
  if (index(lessened, " " id[row] " ")) return "(less)"
  if (aim[row] != "-" && meets(x, aim[row])) return "aim"
  return meets(x, floor[row]) ? "floor" : "BELOW"
}

function meets(x, bound) { return better[row] == "lower" ? x <= bound : x >= bound }

function findBestPeer(    s, x) {
  bestName = ""; bestValue = ""
  for (s = 1; s <= subjects; s++) {
    x = middle[row, subject[s]]
    if (subject[s] == "capstan" || x == "") continue
    if (bestName == "" || (better[row] == "lower" ? x < bestValue : x > bestValue)) { bestName = subject[s]; bestValue = x }
  }
}

function printRow(    s, x, line) {
  line = sprintf("%-5s %-21s %-6s", id[row], metric[row], unit[row])
  for (s = 1; s <= subjects; s++) {
    x = middle[row, subject[s]]
    line = line sprintf(" %12s", x == "" ? "-" : show(x))
  }
  findBestPeer()
  x = middle[row, "capstan"]
  line = line sprintf("   %8s %-12s", x == "" || bestName == "" ? "-" : ratio(x, bestValue), bestName == "" ? "-" : bestName)
  print line sprintf(" %6s %6s  %s", floor[row], aim[row], reached(x))
}

function printHead(    s, line) {
  line = sprintf("\n%-5s %-21s %-6s", "", "metric", "unit")
  for (s = 1; s <= subjects; s++) line = line sprintf(" %12s", subject[s])
  print line sprintf("   %8s %-12s %6s %6s  %s", "ratio to", "best peer", "floor", "aim", "capstan reaches")
}

BEGIN { FS = OFS = "\t" }

FILENAME == ARGV[1] && !/^#/ && NF >= 6 {
  rows++
  id[rows] = $1; metric[rows] = $2; better[rows] = $3; floor[rows] = $4; aim[rows] = $5; unit[rows] = $6
}

FILENAME == ARGV[2] {
  if (!($2 in seen)) { seen[$2] = 1; subject[++subjects] = $2 }
  key = $1 SUBSEP $3 SUBSEP $2
  value[key, ++count[key]] = $4 + 0
}

END {
  for (row = 1; row <= rows; row++)
    for (s = 1; s <= subjects; s++) {
      key = id[row] SUBSEP metric[row] SUBSEP subject[s]
      if (!(key in count)) continue
      middle[row, subject[s]] = median(key)
      any[row] = 1
      print id[row], subject[s], metric[row], show(middle[row, subject[s]]), show(smallest), show(largest), unit[row]
    }
  printHead()
  for (row = 1; row <= rows; row++) if (any[row]) printRow()
  print "\nmedians; ratio: how many times better than the best peer (above 1 is ahead of it)"
}

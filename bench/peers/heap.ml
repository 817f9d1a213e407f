(* OCaml's heap: the work and the options of ../heap_capstan.c, whose head says what is printed. Workers are domains, of which OCaml 4 has one
   (Share is heap_share4.ml or heap_share5.ml). No figures for operations, stable and major. *)

external now : unit -> (int [@untagged]) = "bench_now_byte" "bench_now" [@@noalloc]

let figure = ref ""
let workers = ref 1
let depth = ref 0
let entries = ref 1_000_000
let count = ref 2_000_000
let seconds = ref 0.3

let give_up what =
  prerr_endline ("bench: " ^ what);
  exit 1

let print_figure metric value unit = Printf.printf "%s\t%.6g\t%s\n%!" metric value unit

let status_bytes name =
  let file = open_in "/proc/self/status" in
  let rec look () =
    let line = input_line file in
    try Scanf.sscanf line "%s@: %f" (fun field kilobytes -> if field = name then kilobytes *. 1024. else raise Exit)
    with Exit | Scanf.Scan_failure _ | Failure _ | End_of_file -> look ()
  in
  let bytes = try look () with End_of_file -> give_up ("no " ^ name ^ " in /proc/self/status") in
  close_in file;
  bytes

(* ---- Trees *)

type tree = Leaf | Node of tree * tree

let tree_bytes = 24.
let least_tree = 4

let rec make_tree depth =
  if depth = 0 then Node (Leaf, Leaf)
  else
    let left = make_tree (depth - 1) in
    let right = make_tree (depth - 1) in
    Node (left, right)

let rec count_nodes = function
  | Leaf -> 0
  | Node (Leaf, _) -> 1
  | Node (left, right) -> 1 + count_nodes left + count_nodes right

(* As Leaf is no object, a leaf of the tree is a Node without children: a block of two words, as elsewhere. *)
let make_tree depth = Sys.opaque_identity (make_tree depth)
let nodes_of_tree depth = (1 lsl (depth + 1)) - 1
let check_nodes seen wanted = if seen <> wanted then give_up "the trees have lost or won nodes"

let build_share me =
  let sums = Array.make 64 0 and d = ref least_tree in
  while !d <= !depth do
    let trees = 1 lsl (!depth - !d + least_tree) in
    for _ = trees * me / !workers to (trees * (me + 1) / !workers) - 1 do
      sums.(!d) <- sums.(!d) + count_nodes (make_tree !d)
    done;
    d := !d + 2
  done;
  sums

let measure_trees () =
  let start = now () in
  let stretch = count_nodes (make_tree (!depth + 1)) in
  let long_lived = make_tree !depth in
  let sums = Share.run !workers build_share in
  let last = count_nodes long_lived in
  let took = now () - start in
  check_nodes stretch (nodes_of_tree (!depth + 1));
  check_nodes last (nodes_of_tree !depth);
  let d = ref least_tree in
  while !d <= !depth do
    check_nodes
      (List.fold_left (fun sum share -> sum + share.(!d)) 0 sums)
      ((1 lsl (!depth - !d + least_tree)) * nodes_of_tree !d);
    d := !d + 2
  done;
  let peak = status_bytes "VmHWM" in
  let alive = max (nodes_of_tree (!depth + 1)) ((1 + !workers) * nodes_of_tree !depth) in
  print_figure "seconds" (float took /. 1e9) "s";
  print_figure "peak" (peak /. 1e6) "MB";
  print_figure "peak_over_live" (peak /. (float alive *. tree_bytes)) "ratio"

(* ---- Gaps: the histogram is that of ../histogram.h *)

let steps_log2 = 6
let steps = 1 lsl steps_log2

type message = { number : int; key : int }
type worker = { mutable sum : int; mutable took : int; mutable largest : int; gaps : int array }

let record gaps value =
  let scale = ref 0 in
  while value lsr !scale >= 2 * steps do incr scale done;
  let bucket = if value < steps then value else (!scale * steps) + (value lsr !scale) in
  gaps.(bucket) <- gaps.(bucket) + 1

let quantile gaps part =
  let total = float (Array.fold_left ( + ) 0 gaps) in
  let rec look i seen =
    if i = Array.length gaps then 0
    else
      let seen = seen + gaps.(i) in
      if seen = 0 || float seen < part *. total then look (i + 1) seen
      else if i < steps then i
      else
        let scale = (i / steps) - 1 in
        ((i - (scale * steps) + 1) lsl scale) - 1
  in
  float (look 0 0)

let key_of i = i * 2654435761 land 0xffffffff

let insert map number =
  let key = key_of number in
  Hashtbl.add map key { number; key }

let take map number =
  let key = key_of number in
  match Hashtbl.find_opt map key with
  | Some message when message.number = number -> Hashtbl.remove map key
  | _ -> give_up "a message is not in the map"

let churn entries operations _me =
  let w = { sum = 0; took = 0; largest = 0; gaps = Array.make ((64 - steps_log2 + 1) * steps) 0 } in
  let map : (int, message) Hashtbl.t = Hashtbl.create entries in
  for n = 0 to entries - 1 do insert map n done;
  let start = now () in
  let last = ref start in
  for n = entries to entries + operations - 1 do
    insert map n;
    take map (n - entries);
    let t = now () in
    let gap = t - !last in
    record w.gaps gap;
    if gap > w.largest then w.largest <- gap;
    last := t
  done;
  w.took <- !last - start;
  w.sum <- Hashtbl.fold (fun _ message sum -> sum + message.number) map 0;
  w

let measure_gaps () =
  let entries = !entries / !workers and operations = !count / !workers in
  let all = Share.run !workers (churn entries operations) in
  List.iter
    (fun w ->
      if w.sum <> (entries * operations) + (entries * (entries - 1) / 2) then give_up "the map does not hold what was put into it")
    all;
  let gaps = Array.make ((64 - steps_log2 + 1) * steps) 0 in
  List.iter (fun w -> Array.iteri (fun i n -> gaps.(i) <- gaps.(i) + n) w.gaps) all;
  print_figure "gap_max" (float (List.fold_left (fun most w -> max most w.largest) 0 all) /. 1e6) "ms";
  print_figure "gap_p99.9" (quantile gaps 0.999 /. 1e3) "us";
  print_figure "operation"
    (float (List.fold_left (fun sum w -> sum + w.took) 0 all) /. float (operations * !workers))
    "ns"

(* ---- Burst *)

let burst_depth = 16

let make_burst () =
  let trees = Array.make (int_of_float (1e9 /. tree_bytes /. float (nodes_of_tree burst_depth)) + 1) Leaf in
  for i = 0 to Array.length trees - 1 do trees.(i) <- make_tree burst_depth done;
  check_nodes (Array.fold_left (fun sum tree -> sum + count_nodes tree) 0 trees) (Array.length trees * nodes_of_tree burst_depth)

let measure_burst () =
  let live = make_tree !depth in
  (Sys.opaque_identity make_burst) ();
  Unix.sleepf (if !seconds > 1. then !seconds else 5.);
  let resident = status_bytes "VmRSS" in
  check_nodes (count_nodes (Sys.opaque_identity live)) (nodes_of_tree !depth);
  print_figure "resident" (resident /. 1e6) "MB";
  print_figure "burst_peak" (status_bytes "VmHWM" /. 1e6) "MB";
  print_figure "over_allowed" (resident /. ((1.3 *. tree_bytes *. float (nodes_of_tree !depth)) +. 16e6)) "ratio"

(* ---- Command line *)

let () =
  let number name into = (name, Arg.Set_int into, "") in
  Arg.parse
    [ number "--workers" workers; number "--depth" depth; number "--entries" entries; number "--count" count;
      ("--seconds", Arg.Set_float seconds, "") ]
    (fun name -> figure := name)
    "heap-ocaml FIGURE [--workers=N] [--depth=N] [--entries=N] [--count=N] [--seconds=S]";
  if !depth = 0 then depth := if !figure = "burst" then 20 else 18;
  match !figure with
  | "trees" -> measure_trees ()
  | "gaps" -> measure_gaps ()
  | "burst" -> measure_burst ()
  | _ -> give_up "unknown figure"

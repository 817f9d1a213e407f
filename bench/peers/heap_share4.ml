(* OCaml 4: one thread at a time runs OCaml code, so that sharing would only be waiting. *)
let run workers body =
  if workers <> 1 then (prerr_endline "bench: OCaml 4 has one worker"; exit 1);
  [ body 0 ]

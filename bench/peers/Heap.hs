{-# LANGUAGE BangPatterns, MagicHash, UnboxedTuples #-}
{-# OPTIONS_GHC -fno-full-laziness -fno-cse #-}
-- GHC's heap: the work and the options of ../heap_capstan.c, whose head says what is printed. Workers are capabilities and threads. No figure for
-- operations; of weak only names and pointers, and what they add to a major collection. Without sharing of equal expressions: it would build each tree once.
module Main (main) where

import Control.Concurrent
import Control.Monad
import Data.Array (Array, assocs, bounds, elems, listArray)
import Data.Bits
import qualified Data.IntMap.Strict as IntMap
import Data.IORef
import Data.List (sort, stripPrefix)
import Data.Maybe (listToMaybe, mapMaybe)
import Foreign hiding (void)
import GHC.Clock (getMonotonicTimeNSec)
import GHC.Exts (mkWeakNoFinalizer#)
import GHC.IO (IO (..))
import GHC.IORef (IORef (..))
import GHC.STRef (STRef (..))
import GHC.Weak (Weak (..), deRefWeak)
import Numeric (showFFloat)
import System.Environment (getArgs)
import System.Exit (die)
import System.IO
import System.Mem (performMajorGC, performMinorGC)
import System.Mem.StableName (StableName, makeStableName)

data Options = Options
  { figure, operation :: String, workers, depth, entries, count :: !Int, seconds :: !Double }

printFigure :: String -> Double -> String -> IO ()
printFigure metric value unit = putStrLn (metric ++ "\t" ++ showFFloat (Just 6) value "" ++ "\t" ++ unit)

statusBytes :: String -> IO Double
statusBytes name = do
  text <- withFile "/proc/self/status" ReadMode $ \h -> do { t <- hGetContents h; length t `seq` return t }
  case mapMaybe (stripPrefix name) (lines text) of
    rest : _ -> return (1024 * read (head (words rest)))
    [] -> die ("bench: no " ++ name ++ " in /proc/self/status")

now :: IO Int
now = fromIntegral <$> getMonotonicTimeNSec

-- Trees --------------------------------------------------------------------------------------------------------------

data Tree = Leaf | Node !Tree !Tree

treeBytes :: Double
treeBytes = 24

leastTree :: Int
leastTree = 4

-- A leaf of the tree is a Node without children, an object as elsewhere.
makeTree :: Int -> Tree
makeTree 0 = Node Leaf Leaf
makeTree d = Node (makeTree (d - 1)) (makeTree (d - 1))
{-# NOINLINE makeTree #-}

countNodes :: Tree -> Int
countNodes Leaf = 0
countNodes (Node Leaf _) = 1
countNodes (Node l r) = 1 + countNodes l + countNodes r

-- The tree is made each time that this runs.
freshTree :: Int -> IO Tree
freshTree d = do
  let tree = makeTree d
  return $! tree
{-# NOINLINE freshTree #-}

nodesOfTree :: Int -> Int
nodesOfTree d = bit (d + 1) - 1

checkNodes :: Int -> Int -> IO ()
checkNodes seen wanted = when (seen /= wanted) $ die "bench: the trees have lost or won nodes"

-- body 0 here, the others in threads of their own.
share :: Int -> (Int -> IO a) -> IO [a]
share n body = do
  others <- forM [1 .. n - 1] $ \me -> do
    done <- newEmptyMVar
    _ <- forkIO (body me >>= putMVar done)
    return done
  mine <- body 0
  rest <- mapM takeMVar others
  return (mine : rest)

measureTrees :: Options -> IO ()
measureTrees o = do
  let depths = [leastTree, leastTree + 2 .. depth o]
      treesOf d = bit (depth o - d + leastTree) :: Int
      buildAll :: Int -> Int -> Int -> Int -> IO Int
      buildAll !d !i !end !sum'
        | i == end = return sum'
        | otherwise = do
            tree <- freshTree d
            buildAll d (i + 1) end (sum' + countNodes tree)
      buildShare me = forM depths $ \d ->
        buildAll d (treesOf d * me `div` workers o) (treesOf d * (me + 1) `div` workers o) 0
  start <- now
  stretch <- freshTree (depth o + 1) >>= \tree -> return $! countNodes tree
  longLived <- freshTree (depth o)
  sums <- share (workers o) buildShare
  lastCount <- return $! countNodes longLived
  end <- now
  checkNodes stretch (nodesOfTree (depth o + 1))
  checkNodes lastCount (nodesOfTree (depth o))
  forM_ (zip depths [0 ..]) $ \(d, i) -> checkNodes (sum (map (!! i) sums)) (treesOf d * nodesOfTree d)
  peak <- statusBytes "VmHWM:"
  let alive = max (nodesOfTree (depth o + 1)) ((1 + workers o) * nodesOfTree (depth o))
  printFigure "seconds" (fromIntegral (end - start) / 1e9) "s"
  printFigure "peak" (peak / 1e6) "MB"
  printFigure "peak_over_live" (peak / (fromIntegral alive * treeBytes)) "ratio"

-- Gaps: the histogram is that of ../histogram.h --------------------------------------------------------------------------

stepsLog2, steps, bucketCount :: Int
stepsLog2 = 6
steps = bit stepsLog2
bucketCount = (64 - stepsLog2 + 1) * steps

data Message = Message !Int !Int

data Worker = Worker { total, took, largest :: !Int, gaps :: !(Ptr Int) }

record :: Ptr Int -> Int -> IO ()
record buckets value = do
  let scale = 63 - countLeadingZeros value - stepsLog2
      bucket = if value < steps then value else scale * steps + value `unsafeShiftR` scale
  n <- peekElemOff buckets bucket
  pokeElemOff buckets bucket (n + 1)

quantile :: [Int] -> Double -> Double
quantile buckets part = go 0 0 buckets
  where
    all' = fromIntegral (sum buckets) :: Double
    go :: Int -> Int -> [Int] -> Double
    go _ _ [] = 0
    go i seen (n : ns)
      | seen' == 0 || fromIntegral seen' < part * all' = go (i + 1) seen' ns
      | i < steps = fromIntegral i
      | otherwise = fromIntegral (((i - scale * steps + 1) `shiftL` scale) - 1)
      where seen' = seen + n
            scale = i `div` steps - 1

keyOf :: Int -> Int
keyOf i = i * 2654435761 .&. 0xffffffff

type Messages = IntMap.IntMap Message

insertMessage :: Int -> Messages -> Messages
insertMessage n = IntMap.insert key (Message n key)
  where !key = keyOf n

-- Nothing if it is not there.
takeMessage :: Int -> Messages -> Maybe Messages
takeMessage n m = case IntMap.lookup key m of
  Just (Message number _) | number == n -> Just $! IntMap.delete key m
  _ -> Nothing
  where !key = keyOf n

churn :: Int -> Int -> IO Worker
churn size operations = do
  buckets <- mallocBytes (8 * bucketCount)
  fillBytes buckets 0 (8 * bucketCount)
  let fill :: Int -> Messages -> Messages
      fill !n !m | n == size = m
                 | otherwise = fill (n + 1) (insertMessage n m)
      go :: Int -> Messages -> Int -> Int -> IO (Messages, Int, Int)
      go !n !m !lastTime !most
        | n == size + operations = return (m, lastTime, most)
        | otherwise = case takeMessage (n - size) (insertMessage n m) of
            Nothing -> die ("bench: message " ++ show (n - size) ++ " is not in the map")
            Just !m' -> do
              t <- now
              let gap = t - lastTime
              record buckets gap
              go (n + 1) m' t (max most gap)
      !full = fill 0 IntMap.empty
  start <- now
  (m, end, most) <- go size full start 0
  let !sum' = IntMap.foldl' (\s (Message number _) -> s + number) 0 m
  return (Worker sum' (end - start) most buckets)

measureGaps :: Options -> IO ()
measureGaps o = do
  let size = entries o `div` workers o
      operations = count o `div` workers o
  ws <- share (workers o) (const (churn size operations))
  forM_ ws $ \w -> when (total w /= size * operations + size * (size - 1) `div` 2) $
    die "bench: the map does not hold what was put into it"
  buckets <- forM ws $ \w -> peekArray bucketCount (gaps w)
  printFigure "gap_max" (fromIntegral (maximum (map largest ws)) / 1e6) "ms"
  printFigure "gap_p99.9" (quantile (foldr1 (zipWith (+)) buckets) 0.999 / 1e3) "us"
  printFigure "operation" (fromIntegral (sum (map took ws)) / fromIntegral (operations * workers o)) "ns"

-- Stable pointers ------------------------------------------------------------------------------------------------------

medianOf :: [Double] -> Double
medianOf xs = sort xs !! (length xs `div` 2)

timed :: IO () -> IO Double
timed action = do
  start <- now
  action
  end <- now
  return (fromIntegral (end - start))

-- us, the median; something is allocated before each.
timeMinorCollection :: IO Double
timeMinorCollection = do
  let before = do
        box <- newIORef (0 :: Int)
        forM_ [1 .. 1000] $ \i -> writeIORef box $! i
  times <- replicateM 101 (before >> timed performMinorGC)
  return (medianOf times / 1e3)

measureStable :: Options -> IO ()
measureStable o = do
  replicateM_ 3 performMajorGC
  without <- timeMinorCollection
  pointers <- mallocArray (entries o)
  forM_ [0 .. entries o - 1] $ \i -> do
    p <- newStablePtr $! (fromIntegral i :: Double)
    pokeElemOff pointers i (castStablePtrToPtr p)
  replicateM_ 3 performMajorGC
  with <- timeMinorCollection
  forM_ [0 .. entries o - 1] $ \i -> do
    p <- peekElemOff pointers i
    x <- deRefStablePtr (castPtrToStablePtr p)
    when (x /= (fromIntegral i :: Double)) $ die "bench: a stable pointer names another object"
  printFigure "minor" without "us"
  printFigure "stable_added" (max 0 (with - without)) "us"

-- Major collections, bursts --------------------------------------------------------------------------------------------

-- ms, the median; all is old.
timeMajorCollection :: IO Double
timeMajorCollection = do
  replicateM_ 3 performMajorGC
  times <- replicateM 7 (timed performMajorGC)
  return (medianOf times / 1e6)

measureMajor :: Options -> IO ()
measureMajor o = do
  live <- freshTree (depth o) >>= newIORef
  ms <- timeMajorCollection
  tree <- readIORef live
  checkNodes (countNodes tree) (nodesOfTree (depth o))
  printFigure "major" ms "ms"

type Key = IORef Int

-- To the variable itself: the constructor around it may be another one each time.
weakTo :: Key -> Message -> IO (Weak Message)
weakTo (IORef (STRef var)) value = IO $ \s -> case mkWeakNoFinalizer# var value s of (# s', w #) -> (# s', Weak w #)
{-# NOINLINE weakTo #-}

-- Of the object that is passed, which is evaluated.
nameOf :: a -> IO (StableName a)
nameOf !key = makeStableName key
{-# NOINLINE nameOf #-}

-- Beside the keys, as elsewhere, where they are replaced.
freshObjects :: Int -> IO (Array Int Message)
freshObjects n = do
  list <- forM [0 .. n - 1] $ \i -> return $! Message i 0
  return $! listArray (0, n - 1) list
{-# NOINLINE freshObjects #-}

-- What the keys were made with, which keeps them in use.
checkKeys :: Array Int Key -> IO ()
checkKeys keys = forM_ (assocs keys) $ \(i, key) -> do
  number <- readIORef key
  when (number /= i) $ die "bench: a key has another number"

-- The entries are made from the keys, then checked.
timeEntries :: Array Int Key -> (Int -> Key -> IO e) -> (Int -> Key -> e -> IO Bool) -> IO ()
timeEntries keys make isRight = do
  list <- forM (assocs keys) (uncurry make)
  let entries' = listArray (bounds keys) list
  ms <- length list `seq` timeMajorCollection
  rights <- forM (zip (assocs keys) (elems entries')) $ \((i, key), entry) -> isRight i key entry
  unless (and rights) $ die "bench: an entry gives another value than it was made with"
  printFigure "major_with" ms "ms"

measureWeak :: Options -> IO ()
measureWeak o = do
  list <- forM [0 .. entries o - 1] $ \i -> newIORef $! i
  let !keys = listArray (0, entries o - 1) list
  objects <- freshObjects 1000000 >>= newIORef
  without <- timeMajorCollection
  printFigure "major" without "ms"
  case operation o of
    "names" -> timeEntries keys (const nameOf) (\_ key name -> (== name) <$> nameOf key)
    "pointers" -> timeEntries keys (\i key -> weakTo key $! Message i i) $ \i _ weak -> do
      value <- deRefWeak weak
      return (case value of { Just (Message number _) -> number == i; Nothing -> False })
    _ -> die "bench: weak expects --operation=names or pointers"
  checkKeys keys
  kept <- readIORef objects
  when (sum [number | Message number _ <- elems kept] /= 1000000 * 999999 `div` 2) $ die "bench: the objects have changed"

burstDepth :: Int
burstDepth = 16

makeBurst :: IO ()
makeBurst = do
  let trees = truncate (1e9 / treeBytes / fromIntegral (nodesOfTree burstDepth) :: Double) + 1 :: Int
  all' <- replicateM trees (freshTree burstDepth)
  let !nodes = sum (map countNodes all')
  checkNodes nodes (trees * nodesOfTree burstDepth)
{-# NOINLINE makeBurst #-}

measureBurst :: Options -> IO ()
measureBurst o = do
  live <- freshTree (depth o) >>= newIORef
  makeBurst
  threadDelay (round (1e6 * (if seconds o > 1 then seconds o else 5)))
  resident <- statusBytes "VmRSS:"
  tree <- readIORef live
  checkNodes (countNodes tree) (nodesOfTree (depth o))
  peak <- statusBytes "VmHWM:"
  printFigure "resident" (resident / 1e6) "MB"
  printFigure "burst_peak" (peak / 1e6) "MB"
  printFigure "over_allowed" (resident / (1.3 * treeBytes * fromIntegral (nodesOfTree (depth o)) + 16e6)) "ratio"

-- Command line ---------------------------------------------------------------------------------------------------------

readOptions :: [String] -> Options
readOptions args = Options
  { figure = name
  , operation = concat (option "--operation=")
  , workers = maybe 1 read (option "--workers=")
  , depth = maybe (if name == "trees" then 18 else if name == "major" then 22 else 20) read (option "--depth=")
  , entries = maybe 1000000 read (option "--entries=")
  , count = maybe 2000000 read (option "--count=")
  , seconds = maybe 0.3 (read . withZero) (option "--seconds=") }
  where name = concat [a | a <- args, take 2 a /= "--"]
        option prefix = listToMaybe (mapMaybe (stripPrefix prefix) args)
        withZero s = if take 1 s == "." then '0' : s else s

-- The main thread is a bound one, which costs each switch of threads.
main :: IO ()
main = do
  o <- readOptions <$> getArgs
  setNumCapabilities (workers o)
  runInUnboundThread $ case figure o of
    "trees" -> measureTrees o
    "gaps" -> measureGaps o
    "stable" -> measureStable o
    "major" -> measureMajor o
    "weak" -> measureWeak o
    "burst" -> measureBurst o
    _ -> die "bench: unknown figure"
  hFlush stdout

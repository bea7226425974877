// From images in files to a store of clean layers, a report and OME-TIFFs, for each cohort; DSL2.
//
//   nextflow run main.nf --images 'cohorts/*' --outdir results
//
// Or, as a module of your own workflow: include { PXPREP } from './main.nf'
params.images = 'images'
params.outdir = 'results'

process PXPREP {
    tag "$name"
    publishDir "${params.outdir}/${name}", mode: 'copy'

    input:
    tuple val(name), path(images)

    output:
    tuple val(name), path('study.zarr'), emit: store
    tuple val(name), path('report.html'), emit: report
    tuple val(name), path('tiffs/*.ome.tiff'), emit: tiffs

    // One process for all steps: they share one store, which other processes would only link to.
    script:
    """
    pxprep import '${images}' study.zarr --quiet
    pxprep run study.zarr --layer '*' --output '{layer}_clean' --report report.html
    pxprep export study.zarr tiffs --layer '*_clean'
    """
}

workflow {
    PXPREP(channel.fromPath(params.images, type: 'any').map { images -> tuple(images.baseName, images) })
}
